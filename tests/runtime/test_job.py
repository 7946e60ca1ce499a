"""What a caller gets of its call, and what becomes of a call that nobody waits for."""

import asyncio
import math
from collections.abc import Callable
from threading import Event
from time import monotonic
from weakref import ref

import pytest

from service.runtime.deadline import ExpiredError, check, seconds_left
from service.runtime.engine import Engine
from service.runtime.job import Job, UnwantedError, always
from tests.runtime.conftest import later, occupied


def test_each_caller_gets_its_own_result_or_exception() -> None:
    async def scenario() -> list[object]:
        engine = Engine(4, 100)

        def call(index: int) -> int:
            if index % 3 == 0:
                raise ValueError(str(index))
            return index

        calls = (engine.run(lambda i=i: call(i), later()) for i in range(60))  # type: ignore[misc]
        results = await asyncio.gather(*calls, return_exceptions=True)
        engine.close()
        return [str(r) if isinstance(r, ValueError) else r.value for r in results]  # type: ignore[union-attr]

    assert asyncio.run(scenario()) == [str(i) if i % 3 == 0 else i for i in range(60)]


def test_what_a_failed_call_held_is_freed_once_its_caller_has_the_error() -> None:
    """An image, which a circle of references would keep until the next full collection."""

    class Image:
        pass

    async def scenario() -> None:
        engine = Engine(1, 10)

        def failing() -> tuple[Callable[[], None], "ref[Image]"]:
            image = Image()

            def call() -> None:
                raise ValueError(f"cannot read {image}")

            return call, ref(image)

        call, held = failing()
        with pytest.raises(ValueError, match="cannot read"):
            await engine.run(call, later())
        engine.close()
        del call
        assert held() is None

    asyncio.run(scenario())


def test_what_a_call_held_is_freed_when_it_fails_after_its_caller_left(release: Event) -> None:
    """As a request's is whose deadline passes, or whose client hangs up, while a worker is at it."""

    class Image:
        pass

    async def scenario() -> None:
        engine = Engine(1, 10)
        began = asyncio.Event()
        loop = asyncio.get_running_loop()

        def failing() -> tuple[Callable[[], None], "ref[Image]"]:
            image = Image()

            def call() -> None:
                loop.call_soon_threadsafe(began.set)
                release.wait()
                raise ValueError(f"cannot read {image}")

            return call, ref(image)

        call, held = failing()
        task = asyncio.ensure_future(engine.run(call, later()))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()
        await engine.run(lambda: None, later())  # by then the loop was told of the one before
        engine.close()
        del call
        assert held() is None

    asyncio.run(scenario())


def test_what_a_failed_call_held_is_freed_when_its_caller_leaves_just_then() -> None:
    """When the caller is cancelled, the event loop may know of the call's end already."""

    class Image:
        pass

    async def scenario() -> None:
        def failing() -> tuple[Job[None], "ref[Image]"]:
            image = Image()

            def call() -> None:
                raise ValueError(f"cannot read {image}")

            return Job(call, later(), always), ref(image)

        job, held = failing()
        job.make()
        job.end()
        await job.ended
        job.abandon()
        del job
        assert held() is None

    asyncio.run(scenario())


def test_a_call_that_ends_right_before_its_deadline_is_in_time() -> None:
    """The event loop may learn of both before the caller's turn comes."""

    async def scenario() -> int:
        job = Job(int, later(), always)
        job.make()
        job.end()
        await job.ended
        job.expire()
        return job.result().value

    assert asyncio.run(scenario()) == 0


def test_what_expired_in_the_queue_is_never_computed(release: Event) -> None:
    computed = []

    async def scenario() -> None:
        engine = Engine(1, 10)
        holder = await occupied(engine, release)
        waiting = asyncio.ensure_future(engine.run(lambda: computed.append(1), monotonic() - 1))
        await asyncio.sleep(0)
        assert engine.queued == 1
        release.set()
        with pytest.raises(ExpiredError):
            await waiting
        await holder
        engine.close()

    asyncio.run(scenario())
    assert not computed


def test_what_was_cancelled_in_the_queue_is_never_computed(release: Event) -> None:
    computed = []

    async def scenario() -> None:
        engine = Engine(1, 10)
        holder = await occupied(engine, release)
        waiting = asyncio.ensure_future(engine.run(lambda: computed.append(1), later()))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert engine.queued == 0
        release.set()
        await holder
        engine.close()

    asyncio.run(scenario())
    assert not computed


@pytest.mark.parametrize("left", [True, False])
def test_a_worker_that_already_has_the_call_does_not_begin_it_any_more(left: bool) -> None:
    computed: list[int] = []

    async def scenario() -> None:
        job = Job(lambda: computed.append(1), later() if left else monotonic() - 1, always)
        if left:
            job.abandon()
        job.make()
        with pytest.raises(ExpiredError):
            job.result()
        assert not job.begun

    asyncio.run(scenario())
    assert not computed


def test_what_nobody_wants_when_its_turn_comes_is_never_computed() -> None:
    computed = []

    async def scenario() -> None:
        engine = Engine(1, 10)
        with pytest.raises(UnwantedError):
            await engine.run(lambda: computed.append("unwanted"), later(), wanted=lambda: False)
        await engine.run(lambda: computed.append("wanted"), later(), wanted=lambda: True)
        engine.close()

    asyncio.run(scenario())
    assert computed == ["wanted"]


def test_work_whose_caller_left_ends_at_its_next_check() -> None:
    """The call would never end by itself, and the engine cannot close before it does."""

    async def scenario() -> None:
        engine = Engine(1, 10)
        began = asyncio.Event()
        loop = asyncio.get_running_loop()

        def work() -> None:
            loop.call_soon_threadsafe(began.set)
            while True:
                check()

        caller = asyncio.ensure_future(engine.run(work, later()))
        await began.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        engine.close()

    asyncio.run(scenario())


def test_work_past_its_deadline_ends_at_its_next_check() -> None:
    async def scenario() -> None:
        engine = Engine(1, 10)

        def work() -> None:
            while True:
                check()

        with pytest.raises(ExpiredError):
            await engine.run(work, monotonic() + 0.01)
        assert seconds_left() == math.inf
        engine.close()

    asyncio.run(scenario())


def test_a_call_that_ends_right_after_its_deadline_is_late(release: Event) -> None:
    """The event loop may learn of both before the caller's turn comes."""

    async def scenario() -> None:
        engine = Engine(1, 10)
        deadline = monotonic() + 0.01
        caller = asyncio.ensure_future(engine.run(release.wait, deadline))
        await asyncio.sleep(0)

        def end() -> None:
            release.set()
            engine.close()

        asyncio.get_running_loop().call_later(-1, end)  # comes right before the deadline
        while engine.queued or monotonic() <= deadline:
            pass
        with pytest.raises(ExpiredError):
            await caller

    asyncio.run(scenario())
