"""The streams that are open: no more than so many, and all of them told when the service stops."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from service.runtime.engine import ClosedError


class TooManyStreamsError(Exception):
    """As many streams as may be open are open."""

    def __init__(self) -> None:
        super().__init__("the service has as many streams as it takes")


class Streams:
    """Used from one event loop; only `close` may be called from elsewhere. most: streams open at a time."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._loop = asyncio.get_running_loop()
        self._endings: set[Callable[[], None]] = set()
        self._none = asyncio.Event()
        self._none.set()
        self._closed = False

    @property
    def open(self) -> int:
        """How many there are."""
        return len(self._endings)

    @contextmanager
    def admit(self, end: Callable[[], None]) -> Iterator[None]:
        """Count one stream in for as long as it lasts. end: called when the service wants it to end.

        Raises TooManyStreamsError, and ClosedError when draining.
        """
        if self._closed:
            raise ClosedError
        if self.open >= self.most:
            raise TooManyStreamsError
        self._endings.add(end)
        self._none.clear()
        try:
            yield
        finally:
            self._endings.discard(end)
            if not self._endings:
                self._none.set()

    def close(self) -> None:
        """Admit no more, and ask those that are open to end. Any thread or signal handler may call it."""
        self._loop.call_soon_threadsafe(self._close)

    async def drain(self, grace: float) -> bool:
        """Ask all to end, and wait for that no longer than `grace` seconds; tells whether all did."""
        self._close()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._none.wait()
        return not self._endings

    def _close(self) -> None:
        self._closed = True
        for end in tuple(self._endings):
            end()
