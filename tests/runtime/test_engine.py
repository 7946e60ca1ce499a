"""The pool: admission, turns, the end, and workers that help each other."""

import asyncio
from threading import Barrier, Event, get_ident
from time import monotonic

import pytest

from service.runtime.deadline import seconds_left
from service.runtime.engine import ClosedError, Engine, OverloadedError
from service.runtime.job import UnwantedError
from tests.runtime.conftest import later, occupied


def test_more_than_the_queue_holds_is_refused_with_a_time_to_retry() -> None:
    async def scenario() -> None:
        engine = Engine(1, 1)
        with engine.admit(), engine.admit():
            with pytest.raises(OverloadedError, match="as many requests as it") as refused, engine.admit():
                pass
            assert refused.value.retry_after >= 1
        with engine.admit():
            assert engine.inflight == 1
        engine.close()

    asyncio.run(scenario())


def test_what_would_not_be_answered_in_time_is_refused_at_once() -> None:
    async def scenario() -> None:
        engine = Engine(1, 10)
        engine.drain_rate.ended(0, 20, more_wait=False)
        with engine.admit(monotonic() + 1):  # an idle worker begins at once
            with engine.admit(later()), pytest.raises(OverloadedError), engine.admit(later() - 1):
                pass
            with pytest.raises(OverloadedError), engine.admit(monotonic() + 39):
                pass
        engine.close()

    asyncio.run(scenario())


def test_the_time_to_retry_is_what_the_workers_need_for_all_that_waits(release: Event) -> None:
    async def scenario() -> int:
        engine = Engine(1, 0)
        engine.drain_rate.ended(0, 0.3, more_wait=False)
        holder = await occupied(engine, release)
        batch = [asyncio.ensure_future(engine.run(int, later(), owner="batch")) for _ in range(16)]
        await asyncio.sleep(0)
        with engine.admit(), pytest.raises(OverloadedError) as refused:
            engine.check()
        release.set()
        await asyncio.gather(holder, *batch)
        engine.close()
        return refused.value.retry_after

    assert asyncio.run(scenario()) == 6  # 17 calls of 0.3 s, rounded up


def test_calls_that_were_made_tell_the_workers_speed_and_no_others() -> None:
    async def scenario() -> None:
        engine = Engine(1, 0)
        engine.drain_rate.ended(0, 20, more_wait=False)
        with pytest.raises(UnwantedError):
            await engine.run(int, later(), wanted=lambda: False)
        assert engine.drain_rate.seconds_per_call == 20
        await engine.run(int, later())
        assert engine.drain_rate.seconds_per_call < 20
        engine.close()

    asyncio.run(scenario())


def test_a_worker_that_makes_a_call_is_not_idle() -> None:
    async def scenario() -> list[int]:
        engine = Engine(2, 0)
        meanwhile = (await engine.run(lambda: engine.idle, later())).value
        afterwards = engine.idle
        engine.close()
        return [meanwhile, afterwards, engine.idle]

    assert asyncio.run(scenario()) == [1, 2, 0]


def test_single_calls_go_before_the_rest_of_a_batch(release: Event) -> None:
    made: list[str] = []

    async def scenario() -> None:
        engine = Engine(1, 10)
        holder = await occupied(engine, release)
        batch = [engine.run(lambda: made.append("batch"), later(), owner="batch") for _ in range(16)]
        waiting = [asyncio.ensure_future(call) for call in batch]
        await asyncio.sleep(0)
        singles = [engine.run(lambda: made.append("single"), later()) for _ in range(2)]
        waiting += [asyncio.ensure_future(call) for call in singles]
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(holder, *waiting)
        engine.close()

    asyncio.run(scenario())
    assert made == ["batch", "single", "single"] + 15 * ["batch"]


def test_dropped_calls_are_counted_and_made_ones_are_not(release: Event) -> None:
    dropped: list[int] = []

    async def scenario() -> None:
        engine = Engine(1, 10, on_drop=lambda: dropped.append(1))
        holder = await occupied(engine, release)
        waiting = [asyncio.ensure_future(engine.run(int, later(), owner="batch")) for _ in range(3)]
        expired = asyncio.ensure_future(engine.run(int, monotonic() - 1))
        await asyncio.sleep(0)
        waiting[0].cancel()
        waiting[1].cancel()
        holder.cancel()  # begun, and so not dropped
        await asyncio.gather(holder, *waiting[:2], return_exceptions=True)
        release.set()
        await asyncio.gather(waiting[2], expired, return_exceptions=True)
        assert waiting[2].result().value == 0
        engine.close()

    asyncio.run(scenario())
    assert len(dropped) == 3


def test_closing_ends_the_wait_of_what_no_worker_began(release: Event) -> None:
    async def scenario() -> None:
        engine = Engine(1, 10)
        holder = await occupied(engine, release)
        waiting = asyncio.ensure_future(engine.run(int, later()))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(release.set)
        closing = asyncio.get_running_loop().run_in_executor(None, engine.close)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.gather(holder, closing)

    asyncio.run(scenario())


def test_closing_does_not_have_to_wait_for_a_call_that_is_being_made(release: Event) -> None:
    async def scenario() -> object:
        engine = Engine(1, 10)
        holder = await occupied(engine, release)
        try:
            async with asyncio.timeout(30):
                await asyncio.to_thread(engine.close, wait=False)
        finally:
            release.set()
        return (await holder).value  # type: ignore[attr-defined]

    assert asyncio.run(scenario()) == "held"


def test_after_closing_nothing_is_called_or_waits() -> None:
    async def scenario() -> int:
        engine = Engine(1, 10)
        engine.close()
        with pytest.raises(ClosedError):
            await engine.run(int, later())
        return engine.queued

    assert asyncio.run(scenario()) == 0


def test_draining_admits_nothing_and_waits_for_what_is_in_flight() -> None:
    async def scenario() -> None:
        engine = Engine(1, 1)
        async with asyncio.timeout(30):
            assert await Engine(1, 1).drain(grace=3600)  # nothing was ever in flight
        with engine.admit():
            assert not await engine.drain(grace=0)
            with pytest.raises(ClosedError, match="shutting down"), engine.admit():
                pass
        assert await engine.drain(grace=0)
        assert not engine.accepting
        engine.close()

    asyncio.run(scenario())


def test_a_lone_call_is_helped_by_workers_that_have_nothing_to_do() -> None:
    met = Barrier(2, timeout=30)  # passed only where two threads come at the same time

    async def scenario() -> list[int]:
        engine = Engine(2, 0)
        try:
            parts = [lambda: 0 * met.wait()] * 2
            return (await engine.run(lambda: engine.together(parts), later())).value
        finally:
            engine.close()

    assert asyncio.run(scenario()) == [0, 0]


def test_no_worker_helps_where_calls_wait_or_all_are_busy(release: Event) -> None:
    async def scenario() -> list[int]:
        engine = Engine(2, 10)
        try:
            held = await occupied(engine, release)
            parts = [get_ident] * 3
            finished = await engine.run(lambda: [get_ident(), *engine.together(parts)], later())
            release.set()
            await held
            return finished.value
        finally:
            engine.close()

    assert len(set(asyncio.run(scenario()))) == 1


def test_who_helps_turns_to_a_call_that_waits_before_the_next_part() -> None:
    submitted, done = Event(), Event()
    helped: list[int] = []

    async def scenario() -> None:
        engine, loop = Engine(2, 10), asyncio.get_running_loop()
        began = asyncio.Event()

        def call() -> None:
            own = get_ident()

            def part() -> None:
                if get_ident() == own:
                    assert done.wait(30)
                else:
                    loop.call_soon_threadsafe(began.set)
                    assert submitted.wait(30)
                    helped.append(1)

            engine.together([part] * 3)

        try:
            task = asyncio.ensure_future(engine.run(call, later()))
            await began.wait()
            other = asyncio.ensure_future(engine.run(done.set, later()))
            await asyncio.sleep(0)  # until it waits for a worker
            submitted.set()
            await asyncio.gather(task, other)
        finally:
            engine.close()

    asyncio.run(scenario())
    assert len(helped) == 1


def test_the_parts_of_a_call_end_by_its_deadline() -> None:
    met = Barrier(2, timeout=30)

    def part() -> float:
        met.wait()
        return seconds_left()

    async def scenario() -> list[float]:
        engine = Engine(2, 0)
        try:
            return (await engine.run(lambda: engine.together([part, part]), later())).value
        finally:
            engine.close()

    assert all(0 < left <= 60 for left in asyncio.run(scenario()))
