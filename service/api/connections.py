"""One connection of a client, with an end to what it may make the server wait for.

uvicorn bounds the silence between two requests and nothing else: a client that sends a byte of a header now
and then, or never takes its answer, would keep its connection for ever.
"""

import asyncio
import select
import socket
import struct
import sys
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

# Request line and headers together; a proxy's or a browser's are a tenth of it.
MAX_HEAD_BYTES = 65_536
_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
)
# On, and for 0 s: what is not sent yet is thrown away, by the kernel too.
_NO_LINGER = struct.pack("ii", 1, 0)


class Connection(HttpToolsProtocol):
    """Closed when it has sent no whole head of a request for as long as a request may take.

    That time runs from the opening, and from each answer on: it includes the rest of a body that was refused.
    An answer that the client takes longer to read than that is cut off.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limit_s: float = self.config.app.state.settings.request_timeout_s  # type: ignore[union-attr]
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._in_head, self._head_bytes = False, 0
        self._unanswered: list[RequestResponseCycle] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._descriptor: int = transport.get_extra_info("socket").fileno()
        self._reading = self.loop.call_later(self._limit_s, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        # uvicorn tells the last of several requests that came at once, and none that is being answered.
        for cycle in self._unanswered:
            cycle.disconnected = not cycle.response_complete
            cycle.message_event.set()
        super().connection_lost(exc)
        _stop(self._reading)
        _stop(self._writing)

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a head that has no end yet."""
        was_in_head = self._in_head
        super().data_received(data)
        if was_in_head and self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.transport.write(_HEAD_TOO_LARGE)
                self.transport.close()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """From here on the app bounds the time, of the body too."""
        self._in_head = False
        _stop(self._reading)
        self.scope["state"]["connected"] = self.connected
        super().on_headers_complete()
        if self.cycle:
            self._unanswered = [cycle for cycle in self._unanswered if not cycle.response_complete]
            self._unanswered.append(self.cycle)

    def connected(self) -> bool:
        """Whether the client is still there, which the kernel knows first. Any thread may ask.

        If not, the connection is lost for the event loop too, which reads nothing while requests wait.
        """
        gone = hung_up(self._descriptor)
        if gone:
            self.loop.call_soon_threadsafe(self.transport.abort)
        return not gone

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        _stop(self._reading)
        if not self.transport.is_closing() and self.cycle.response_complete:
            self._reading = self.loop.call_later(self._limit_s, self.timeout_keep_alive_handler)

    def pause_writing(self) -> None:
        """More is to be sent than the client has taken."""
        super().pause_writing()
        self._writing = self.loop.call_later(self._limit_s, self._cut_off)

    def resume_writing(self) -> None:
        """The client has caught up."""
        _stop(self._writing)
        super().resume_writing()

    def _cut_off(self) -> None:
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.transport.abort()


def hung_up(descriptor: int) -> bool:
    """Whether the other end of a socket has closed its own, or this one is closed; only Linux tells."""
    if sys.platform != "linux":
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLRDHUP)
    return bool(poll.poll(0))


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
