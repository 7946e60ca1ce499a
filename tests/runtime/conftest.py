"""Calls that hold a worker until the test lets them go."""

import asyncio
from collections.abc import Iterator
from threading import Event
from time import monotonic

import pytest

from service.runtime.engine import Engine


@pytest.fixture
def release() -> Iterator[Event]:
    """Lets blocked workers go, at the latest when the test ends."""
    event = Event()
    yield event
    event.set()


def later() -> float:
    return monotonic() + 60


async def occupied(engine: Engine, release: Event) -> "asyncio.Task[object]":
    """A task whose call holds the engine's worker until `release` is set."""
    began = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold() -> str:
        loop.call_soon_threadsafe(began.set)
        release.wait()
        return "held"

    task = asyncio.ensure_future(engine.run(hold, later()))
    await began.wait()
    return task
