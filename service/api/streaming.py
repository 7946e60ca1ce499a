"""One stream: frames in, the newest worked on, one answer for each that was."""

import asyncio
from dataclasses import dataclass
from functools import partial
from time import monotonic

from fastapi import WebSocket, WebSocketDisconnect

from service.api import sockets
from service.api.answers import stream_frame, to_json
from service.api.deps import DetectQuery, Runtime
from service.api.errors import BodyTooLargeError, EmptyBodyError, kind_of, problem_of
from service.api.execution import on_a_worker
from service.api.schemas import StreamError, StreamFrame
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.vision.track import Memory, Tracker


@dataclass(frozen=True, slots=True)
class Frame:
    """An encoded image.

    number: counts what the client sent, from 1; dropped: frames before it that newer ones replaced;
    received: on the clock of `time.monotonic`.
    """

    number: int
    dropped: int
    data: bytes
    received: float


class Mailbox:
    """Holds the newest frame until it is taken; what it replaces is dropped."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._waiting: Frame | None = None
        self._number = 0
        self._closed = False

    @property
    def waiting(self) -> bool:
        """Whether there is a frame that nobody took."""
        return self._waiting is not None

    def put(self, data: bytes) -> bool:
        """Leave a frame; tells whether an older one was dropped for it."""
        replaced = self._waiting
        self._number += 1
        self._waiting = Frame(self._number, replaced.dropped + 1 if replaced else 0, data, monotonic())
        self._changed.set()
        return replaced is not None

    async def take(self) -> Frame | None:
        """Wait for a frame; None once the mailbox is closed."""
        await self._changed.wait()
        if self._closed:
            return None
        self._changed.clear()
        frame, self._waiting = self._waiting, None
        return frame

    def close(self) -> None:
        """Hand out no more frames."""
        self._closed = True
        self._changed.set()


@dataclass(frozen=True, slots=True)
class CloseFrame:
    """What a socket is closed with."""

    code: int
    reason: str


class StreamSession:
    """One client's stream, from the handshake to the close frame."""

    def __init__(
        self, socket: WebSocket, settings: Settings, runtime: Runtime, metrics: Metrics, query: DetectQuery
    ) -> None:
        self._socket, self._settings, self._runtime, self._metrics = socket, settings, runtime, metrics
        self._include_crops = query.include_crops
        self._tracker = Tracker(runtime.pipeline, query.options)
        self._memory = Memory()
        self._mailbox = Mailbox()
        self._working = False
        self._heard = monotonic()  # when the last frame came, or the last answer went

    async def run(self) -> None:
        """Serve until the client leaves or goes silent, breaks a limit, or the service stops.

        Raises TooManyStreamsError, ClosedError or BodyTooLargeError, to be told with the close frame.
        """
        with self._runtime.streams.admit(self._mailbox.close):
            await sockets.accept(self._socket)
            try:
                end = await self._serve()
                await sockets.close(self._socket, end.code, end.reason)
            except WebSocketDisconnect:
                return

    async def _serve(self) -> CloseFrame:
        """Read and answer until one of both ends; what the socket is then closed with."""
        reading = asyncio.ensure_future(self._read())
        answering = asyncio.ensure_future(self._answer())
        try:
            await asyncio.wait((reading, answering), return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else answering.result()
        finally:
            reading.cancel()
            answering.cancel()
            await asyncio.gather(reading, answering, return_exceptions=True)
            # What they raise holds this frame: a circle that would keep the last picture.
            del reading, answering

    async def _read(self) -> CloseFrame:
        """Take frames in as fast as they come."""
        while True:
            data = await self._receive()
            if data is None:
                return CloseFrame(sockets.NORMAL, f"no frame for {self._settings.stream_idle_timeout_s:g} s")
            if len(data) > self._settings.max_body_bytes:
                raise BodyTooLargeError(f"the frame is larger than {self._settings.max_body_bytes} bytes")
            if self._mailbox.put(data):
                self._metrics.stream_frame("dropped")

    async def _receive(self) -> bytes | None:
        """A message, or None after too long a silence; waiting for an answer is no silence."""
        while True:
            if self._working or self._mailbox.waiting:
                self._heard = monotonic()
            silent_at = self._heard + self._settings.stream_idle_timeout_s
            if silent_at <= monotonic():
                return None
            try:
                async with asyncio.timeout(silent_at - monotonic()):
                    message = await self._socket.receive()
            except TimeoutError:
                continue
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message["code"])
            # Text is no image, and the decoder says so.
            return message.get("bytes") or (message.get("text") or "").encode()

    async def _answer(self) -> CloseFrame:
        """Answer the newest frame, again and again, until the service stops."""
        while frame := await self._mailbox.take():
            self._working = True
            answer = await self._answer_one(frame)
            await self._socket.send_text(to_json(answer).decode())
            self._working, self._heard = False, monotonic()
        return CloseFrame(sockets.GOING_AWAY, sockets.STOPPING)

    async def _answer_one(self, frame: Frame) -> StreamFrame | StreamError:
        try:
            with self._runtime.engine.admit(), self._runtime.tracing.frame():
                answer = await self._analyze(frame)
        except Exception as error:
            self._metrics.rejected(kind_of(error).code)
            self._metrics.stream_frame("error")
            problem = problem_of(error, self._socket.state.request_id)
            return StreamError(frame=frame.number, dropped=frame.dropped, error=problem)
        self._metrics.stream_frame("ok")
        return answer

    async def _analyze(self, frame: Frame) -> StreamFrame:
        if not frame.data:
            raise EmptyBodyError("the frame is empty")
        started = monotonic()
        deadline = started + self._settings.request_timeout_s
        call = partial(self._tracker.track_encoded, frame.data, self._memory, frame.received)
        finished = await on_a_worker(self._runtime, call, deadline)
        tracked = finished.value
        self._memory = tracked.memory
        self._metrics.analysis(tracked.analysis, finished.queue_ms)
        self._runtime.tracing.analyzed(tracked.analysis)
        return stream_frame(
            tracked,
            self._runtime.store.manifest.emotion[tracked.analysis.model],
            number=frame.number,
            dropped=frame.dropped,
            queue_ms=finished.queue_ms,
            total_ms=(monotonic() - started) * 1000,
            include_crops=self._include_crops,
        )
