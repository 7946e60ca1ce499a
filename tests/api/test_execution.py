"""What ends a request's work before it is done."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from service.api.errors import DeadlineExceededError
from service.api.execution import ended_by, within


class EndedError(Exception):
    pass


def run(block: Callable[[Callable[[], None]], Awaitable[str]]) -> str:
    """What a block returns that gets what ends it."""

    async def main() -> str:
        with ended_by(EndedError) as end:
            return await block(end)

    return asyncio.run(main())


def test_a_block_that_nobody_ends_returns() -> None:
    async def block(_: Callable[[], None]) -> str:
        await asyncio.sleep(0)
        return "done"

    assert run(block) == "done"


def test_a_block_is_ended_where_it_waits() -> None:
    async def block(end: Callable[[], None]) -> str:
        asyncio.get_running_loop().call_soon(end)
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
        with ended_by(EndedError) as end:
            pass
        asyncio.get_running_loop().call_soon(end)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert asyncio.run(main()) == 0


def test_an_ended_block_leaves_its_task_as_it_was() -> None:
    async def ended() -> None:
        with ended_by(EndedError) as end:
            asyncio.get_running_loop().call_soon(end)
            await asyncio.Event().wait()

    async def main() -> str:
        with pytest.raises(EndedError):
            await ended()
        async with asyncio.timeout(30):
            await asyncio.sleep(0)
        return "done"

    assert asyncio.run(main()) == "done"


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
        await within(-1.0, asyncio.Event().wait())
        end()
        return "never"

    async def early(end: Callable[[], None]) -> str:
        asyncio.get_running_loop().call_soon(end)
        await within(1e9, asyncio.Event().wait())
        return "never"

    with pytest.raises(DeadlineExceededError):
        run(late)
    with pytest.raises(EndedError):
        run(early)
