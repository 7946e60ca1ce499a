"""How streams end: who is told, who is waited for, and who comes too late."""

import asyncio

import pytest

from service.runtime.engine import ClosedError
from service.runtime.streams import Streams


@pytest.mark.parametrize("before", [0, 1])
def test_where_no_stream_is_open_nothing_is_waited_for(before: int) -> None:
    async def scenario() -> None:
        streams = Streams(1)
        for _ in range(before):
            with streams.admit(lambda: None):
                pass
        async with asyncio.timeout(30):
            assert await streams.drain(grace=3600)

    asyncio.run(scenario())


def test_those_that_are_open_are_told_and_no_other_begins() -> None:
    told: list[str] = []

    async def scenario() -> None:
        streams = Streams(2)
        with streams.admit(lambda: told.append("end")):
            assert not await streams.drain(grace=0)
            with pytest.raises(ClosedError), streams.admit(lambda: None):
                pass

    asyncio.run(scenario())
    assert told == ["end"]
