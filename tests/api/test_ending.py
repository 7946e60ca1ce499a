"""What ends a request's work before it is done."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from time import monotonic
from weakref import ref

import pytest

from service.api.ending import Ending
from service.runtime.deadline import ExpiredError


class EndedError(Exception):
    pass


def run(block: Callable[[Callable[[], None]], Awaitable[str]], deadline: float = math.inf) -> str:
    """What a block returns that gets what ends it."""

    async def main() -> str:
        with Ending(deadline) as ending:
            return await block(lambda: ending.by(EndedError()))

    return asyncio.run(main())


def test_a_block_that_nobody_ends_returns() -> None:
    async def block(_: Callable[[], None]) -> str:
        await asyncio.sleep(0)
        return "done"

    assert run(block) == "done"


def test_a_block_is_ended_where_it_waits() -> None:
    async def block(end: Callable[[], None]) -> str:
        asyncio.get_running_loop().call_soon(end)
        await asyncio.Event().wait()
        return "never"

    with pytest.raises(EndedError):
        run(block)


def test_a_block_that_ends_itself_is_ended_at_once() -> None:
    async def block(end: Callable[[], None]) -> str:
        end()
        return "never"

    with pytest.raises(EndedError):
        run(block)


def test_what_was_done_when_it_was_ended_stays_done_and_the_task_is_not_cancelled() -> None:
    async def main() -> int:
        with Ending() as ending:
            pass
        asyncio.get_running_loop().call_soon(ending.by, EndedError())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert asyncio.run(main()) == 0


def test_an_ended_block_leaves_its_task_as_it_was() -> None:
    async def ended() -> None:
        with Ending() as ending:
            asyncio.get_running_loop().call_soon(ending.by, EndedError())
            asyncio.get_running_loop().call_soon(ending.by, ExpiredError())
            await asyncio.Event().wait()

    async def main() -> int:
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(EndedError):
            await ended()
        await asyncio.sleep(0)
        return task.cancelling()

    assert asyncio.run(main()) == 0


def test_another_cancellation_passes_through() -> None:
    async def block(_: Callable[[], None]) -> str:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel)
        await asyncio.Event().wait()
        return "never"

    with pytest.raises(asyncio.CancelledError):
        run(block)


def test_of_deadline_and_end_the_first_tells() -> None:
    async def late(end: Callable[[], None]) -> str:
        await asyncio.Event().wait()
        end()
        return "never"

    async def early(end: Callable[[], None]) -> str:
        asyncio.get_running_loop().call_soon(end)
        await asyncio.Event().wait()
        return "never"

    with pytest.raises(ExpiredError):
        run(late, monotonic() - 1)
    with pytest.raises(EndedError):
        run(early, monotonic() + 1e9)


def test_what_ends_in_time_is_not_ended_by_its_deadline() -> None:
    async def main() -> str:
        with Ending(monotonic()):
            pass
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return "done"

    assert asyncio.run(main()) == "done"


def test_nothing_is_kept_until_its_deadline_of_what_ended_in_time() -> None:
    """Its task knows the answer."""

    async def main() -> Ending | None:
        with Ending(monotonic() + 1e9) as ending:
            held = ref(ending)
        del ending
        return held()

    assert asyncio.run(main()) is None


def test_an_end_inside_of_another_passes_on_that_of_the_outer_one() -> None:
    async def block(end: Callable[[], None]) -> str:
        asyncio.get_running_loop().call_soon(end)
        with Ending(monotonic() + 1e9):
            await asyncio.Event().wait()
        return "never"

    with pytest.raises(EndedError):
        run(block)


def test_blocks_that_are_ended_at_once_leave_their_task_as_it_was() -> None:
    async def ended() -> None:
        with Ending() as outer, Ending() as inner:
            asyncio.get_running_loop().call_soon(outer.by, EndedError())
            asyncio.get_running_loop().call_soon(inner.by, ExpiredError())
            await asyncio.Event().wait()

    async def main() -> int:
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(ExpiredError):
            await ended()
        return task.cancelling()

    assert asyncio.run(main()) == 0


class Image:
    pass


@pytest.mark.parametrize("itself", [True, False])
def test_what_an_ended_block_held_is_freed(itself: bool) -> None:
    """A request's body, which a circle of references would keep until the next full collection."""

    async def ended(held: list["ref[Image]"]) -> None:
        image = Image()
        held.append(ref(image))
        with Ending() as ending:
            if itself:
                ending.by(EndedError())
            asyncio.get_running_loop().call_soon(ending.by, EndedError())
            await asyncio.Event().wait()

    async def main() -> Image | None:
        held: list[ref[Image]] = []
        with pytest.raises(EndedError):
            await ended(held)
        await asyncio.sleep(0)  # the event loop lets go of what it told the block
        return held[0]()

    assert asyncio.run(main()) is None
