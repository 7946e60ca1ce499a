"""One connection of a client, with an end to what it may make the server wait for or keep.

uvicorn bounds the silence between two requests and nothing else: a client that sends a byte of a header now
and then, or never takes its answer, would keep its connection for ever.
"""

import asyncio
import re
import select
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import ref

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api.loss import Loss

# Request line and headers together, or what ends a body in chunks; a browser's are a tenth of it.
MAX_HEAD_BYTES = 65_536
# Requests that a client may send before the one that is being answered is.
MAX_PIPELINED = 100
WATCH_S = 0.1
# Between two requests. Longer than most proxies keep theirs, of which one would else send a request just when
# it is closed, and answer 502: a POST is not tried again.
KEEP_ALIVE_S = 150
_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
)
# An offer to go on in another protocol. The parser would take it as done, and the body for that protocol's.
_OFFER = re.compile(rb"\r\nupgrade:(?![ \t]*websocket)[^\r\n]*", re.IGNORECASE)
# On, and for 0 s: what is not sent yet is thrown away, by the kernel too.
_NO_LINGER = struct.pack("ii", 1, 0)


class Connection(HttpToolsProtocol):
    """Closed when it has sent no whole head of a request for as long as a request may take.

    That time runs from the opening, and after an answer from the first byte on: it includes the rest of a
    body that was refused. With nothing to read a connection is kept for `KEEP_ALIVE_S`.
    An answer that the client takes longer to read than that is cut off. Of one who wants a closed
    connection and is answered early, the rest of the body is read all the same: closed with bytes unread, the
    kernel would reset it, and the client, who still sends, would see that and not the answer.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limit_s: float = self.config.app.state.settings.request_timeout_s  # type: ignore[union-attr]
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._watching: asyncio.TimerHandle | None = None
        self._loss = Loss()
        self._between, self._in_head = True, False
        self._stopping, self._lingering = False, False
        self._steps, self._bytes_since_step = 0, 0
        self._unanswered: deque[RequestResponseCycle] = deque()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._descriptor: int = transport.get_extra_info("socket").fileno()
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        # uvicorn tells the last of several requests that came at once, and none that is being answered.
        for cycle in self._unanswered:
            cycle.disconnected = True
            # Of a request that never begins, a circle of references would keep the body.
            cycle.on_response = lambda: None
        super().connection_lost(exc)
        self._loss.happen()
        # uvicorn's own, too, which would keep a connection that was reset until it runs out.
        for timer in (self._reading, self._writing, self._watching, self.timeout_keep_alive_task):
            stop(timer)

    def data_received(self, data: bytes) -> None:
        """Parse, and count the bytes that bring neither a head to its end nor any of a body."""
        before = self._steps
        super().data_received(without_offer(data) if self._between else data)
        self._bytes_since_step = self._bytes_since_step + len(data) if self._steps == before else 0
        if self._between and self._bytes_since_step and self._reading is None:
            self._await_head()  # uvicorn counts the silence no longer, whatever it is that came
        if self._bytes_since_step > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(_HEAD_TOO_LARGE)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, once all before it is answered."""
        if not self._ends_after_answers():
            super().send_400_response(msg)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._steps += 1
        self._between, self._in_head = False, True
        if self._reading is None and all(cycle.response_complete for cycle in self._unanswered):
            self._await_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Those after a body in chunks are no headers of the request (RFC 9110, section 6.5.1).

        Blanks around a value are no part of it (section 5.5); the parser leaves those that follow.
        """
        if self._in_head:
            super().on_header(name, value.strip(b" \t"))

    def on_headers_complete(self) -> None:
        """From here on the app bounds the time, of the body too."""
        self._steps += 1
        self._in_head = False
        self._stop_reading()
        if self.parser.should_upgrade() and not self._should_upgrade() and _has_body(self.headers):
            raise ValueError("the body would be taken for another protocol's")
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts < 1 and self.parser.get_http_version() == "1.1"):
            raise ValueError("none, or a proxy in front may have believed another (RFC 9112, section 3.2)")
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("more requests at once than anybody needs")
        # Weak, since a circle of references would keep the request's body until the next full collection.
        self.scope["state"]["loss"] = self._loss
        self.scope["state"]["connected"] = partial(_connected, ref(self))
        super().on_headers_complete()
        while self._unanswered and self._unanswered[0].response_complete:
            self._unanswered.popleft()
        if self.cycle:
            self._unanswered.append(self.cycle)
            self.cycle.transport = _Outlet(self.transport, partial(_end, ref(self)))  # type: ignore[assignment]
        if self.pipeline:
            self._watch_later()

    def on_chunk_header(self) -> None:
        """Of a body in chunks."""
        self._steps += 1

    def on_body(self, body: bytes) -> None:
        """Some bytes of it."""
        self._steps += 1
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The last byte of a request. Reading goes on, or nobody would see that the client leaves."""
        self._steps += 1
        self._between = True
        super().on_message_complete()
        if not self.pipeline:
            self.flow.resume_reading()
        if self._lingering:
            self.transport.close()
            self._await_reader()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over. What uvicorn's WebSocket protocol leaves without an answer is refused."""
        if any(not cycle.response_complete for cycle in self._unanswered):
            self.send_400_response("Invalid HTTP request received.")
            return
        super().handle_websocket_upgrade()
        self.parser = None  # type: ignore[assignment]  # a circle of references
        if not self.transport.get_protocol().handshake_initiated:  # type: ignore[attr-defined]
            super().send_400_response("Invalid WebSocket handshake received.")

    def connected(self) -> bool:
        """Whether the client is still there, which the kernel knows first. Any thread may ask.

        If not, the connection is lost for the event loop too, which reads nothing while requests wait.
        """
        gone = hung_up(self._descriptor)
        if gone:
            self.loop.call_soon_threadsafe(self.transport.abort)
        return not gone

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the client to take the last answer."""
        super().on_response_complete()
        self._stop_reading()
        if self.transport.is_closing():
            self._await_reader()
        elif self.cycle.response_complete and not (self._between and not self._bytes_since_step):
            self._await_head()

    def timeout_keep_alive_handler(self) -> None:
        """Close, which takes until the client has read what was sent."""
        super().timeout_keep_alive_handler()
        self._await_reader()

    def pause_writing(self) -> None:
        """More is to be sent than the client has taken."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """The client has caught up."""
        stop(self._writing)
        super().resume_writing()

    def shutdown(self) -> None:
        """The service stops: nothing more is waited for."""
        self._stopping = True
        super().shutdown()

    def end(self) -> None:
        """Close after an answer, which may be there before the rest of what it answers."""
        if self._stopping or not self.cycle.response_complete or not self.cycle.more_body:
            self.transport.close()
            return
        self._lingering = True
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _await_head(self) -> None:
        self._stop_reading()
        self._reading = self.loop.call_later(self._limit_s, self.timeout_keep_alive_handler)

    def _stop_reading(self) -> None:
        stop(self._reading)
        self._reading = None

    def _await_reader(self) -> None:
        stop(self._writing)
        if self in self.connections:  # and not lost already
            self._writing = self.loop.call_later(self._limit_s, cut_off, self.transport)

    def _refuse(self, answer: bytes) -> None:
        if not self._ends_after_answers():
            self.transport.write(answer)
            self.transport.close()

    def _ends_after_answers(self) -> bool:
        """Have the connection end with the answer to the last request, if that is due or was the last."""
        if self._lingering:
            self.transport.close()
            return True
        if not self._unanswered or self._unanswered[-1].response_complete or self._unanswered[-1].more_body:
            return False
        self.flow.pause_reading()
        self._unanswered[-1].keep_alive = False
        self._watch_later()
        return True

    def _watch_later(self) -> None:
        """While nothing is read, the event loop does not see that the client leaves."""
        stop(self._watching)
        self._watching = self.loop.call_later(WATCH_S, self._watch)

    def _watch(self) -> None:
        if self.connected() and self.flow.read_paused:
            self._watch_later()


class _Outlet:
    """What an answer is written to; when the connection is closed after it is not the answer's to decide."""

    def __init__(self, transport: asyncio.Transport, end: Callable[[], None]) -> None:
        self.write, self.is_closing, self.close = transport.write, transport.is_closing, end


def _end(connection: ref[Connection]) -> None:
    here = connection()
    if here is not None:
        here.end()


def _connected(connection: ref[Connection]) -> bool:
    here = connection()
    return here is not None and here.connected()


def without_offer(data: bytes) -> bytes:
    """What begins with a request's head, less its offer of another protocol than WebSocket, such as h2c."""
    end = data.find(b"\r\n\r\n")
    if end < 0 or not _OFFER.search(data, 0, end):
        return data
    return _OFFER.sub(b"", data[:end]) + data[end:]


def hung_up(descriptor: int) -> bool:
    """Whether the other end of a socket has closed its own, or this one is closed; only Linux tells."""
    if sys.platform != "linux":
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLRDHUP)
    return bool(poll.poll(0))


def cut_off(transport: asyncio.Transport) -> None:
    """Close a connection whose client does not take what it was sent."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


def stop(timer: asyncio.TimerHandle | None) -> None:
    """Cancel a timer, if there is one."""
    if timer is not None:
        timer.cancel()


def _has_body(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0")
        for name, value in headers
    )
