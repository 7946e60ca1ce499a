"""The connection of a WebSocket, with an end to what its client may make the server wait for or keep."""

import asyncio
from asyncio.transports import BaseTransport
from typing import Any

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from service.api.connections import cut_off, stop
from service.api.sockets import GOING_AWAY, INTERNAL_ERROR, INVALID_DATA, POLICY_VIOLATION, STOPPING

# How long a client that has stopped reading has to make room for the close frame.
GOODBYE_S = 1.0
# What may wait to be sent to a client when it is sent the answer to a ping, too.
MAX_UNREAD_BYTES = 65_536
# What a client may still send after the goodbye, its own among it, before nothing is looked at any more.
MAX_LATE_BYTES = 65_536
# So much of what came together is parsed at a time, and may hold so many frames.
PIECE_BYTES, MAX_FRAMES = 16_384, 500


class StreamConnection(WebSocketsSansIOProtocol):
    """Cut off when its client takes longer than a request may take to read what it was sent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limit_s: float = self.config.app.state.settings.request_timeout_s  # type: ignore[union-attr]
        self._writing: asyncio.TimerHandle | None = None
        self._late_bytes = 0

    def connection_made(self, transport: BaseTransport) -> None:
        """Have `pause_writing` called as soon as anything is left to be sent: a close waits for it, too."""
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(0)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing, and keep nothing: circles of references would until they are collected."""
        stop(self._writing)
        self.conn.reader.discard()
        self.frames = []
        while not self.queue.empty():
            self.queue.get_nowait()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse piece by piece, then let the other connections have their turn before more is read."""
        for start in range(0, len(data), PIECE_BYTES):
            self._take(data[start : start + PIECE_BYTES])
        if self.transport.is_reading():
            self.transport.pause_reading()
            self.loop.call_soon(self._read_on)

    def _take(self, piece: bytes) -> None:
        if self.close_sent:
            self._late_bytes += len(piece)
        if self._late_bytes <= MAX_LATE_BYTES:
            super().data_received(piece)
        else:
            self.conn.reader.discard()
            self._end_writing()

    def _read_on(self) -> None:
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def handle_events(self) -> None:
        """Act on frames. The smallest costs as much as a picture's, and nobody needs many of them."""
        if len(self.conn.events) > MAX_FRAMES and not self.close_sent:
            self.conn.events_received()
            self.conn.fail(POLICY_VIOLATION, "too many small frames")
            self.handle_parser_exception()
            return
        super().handle_events()

    def pause_writing(self) -> None:
        """More is to be sent than the client has taken."""
        super().pause_writing()
        self._writing = self.loop.call_later(self._limit_s, cut_off, self.transport)

    def resume_writing(self) -> None:
        """The client has caught up."""
        stop(self._writing)
        super().resume_writing()

    def handle_ping(self) -> None:
        """Answer, unless the client does not even read the answers to its last pings."""
        if self.transport.get_write_buffer_size() < MAX_UNREAD_BYTES:
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def keepalive_timeout(self) -> None:
        """The client answers no ping. It may still send, and is to find the reason, as the log is."""
        self.pong_timer = self.pending_ping_payload = None
        if not self.close_sent and not self.transport.is_closing():
            self.conn.fail(INTERNAL_ERROR, "keepalive ping timeout")
            self.handle_parser_exception()

    async def send(self, message: ASGISendEvent) -> None:
        """Pass a message on. To a client that does not read, not even the goodbye gets through."""
        if message["type"] == "websocket.close":
            self._hurry()
        await super().send(message)

    def send_receive_event_to_app(self) -> None:
        """Pass a message on. A text that is no UTF-8 ends the stream without a traceback in the log."""
        if not self.close_sent and self.curr_msg_data_type == "text" and not _is_utf8(b"".join(self.frames)):
            self.frames = []
            self.conn.send_close(INVALID_DATA)
            self.handle_parser_exception()
            return
        super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        """Say why the stream ends, and drop what still comes, for as long as after any other goodbye.

        Closed with bytes unread, the kernel would reset the connection: its client, who may still be sending
        what was too large, would see that first and perhaps never the reason.
        """
        if self.close_sent:
            return
        self.close_sent = True
        goodbye = self.conn.close_sent
        assert goodbye is not None
        self.queue.put_nowait(
            {"type": "websocket.disconnect", "code": goodbye.code, "reason": goodbye.reason}
        )
        self.transport.write(b"".join(self.conn.data_to_send()))
        self._end_writing()
        self.read_paused = False
        self.transport.resume_reading()
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)

    def shutdown(self) -> None:
        """Say goodbye. One client's handshake or close that is odd must not keep the server from ending."""
        self._hurry()
        try:
            if self.handshake_complete and not self.close_sent:
                # uvicorn's own would be another code, without a reason.
                self.conn.send_close(GOING_AWAY, STOPPING)
                self.handle_parser_exception()
            super().shutdown()
        except Exception:
            self.transport.abort()

    def _end_writing(self) -> None:
        """Let the client know that nothing more comes: its own goodbye will not be seen."""
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()

    def _hurry(self) -> None:
        """From now on a client that has not taken all that was sent has GOODBYE_S left."""
        if not self.writable.is_set():
            stop(self._writing)
            self._writing = self.loop.call_later(GOODBYE_S, cut_off, self.transport)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
