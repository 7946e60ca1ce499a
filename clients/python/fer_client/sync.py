"""The client for programs that wait for each answer."""

import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Timer
from types import TracebackType
from typing import Any, Self, Unpack

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from fer_client import wire
from fer_client.errors import FerError
from fer_client.types import BatchError, BatchOk, Detection, ModelInfo, StreamError, StreamFrame


class _Connection(ClientConnection):
    def handshake(self, *args: Any, **kwargs: Any) -> None:
        with wire.not_redirected():
            super().handshake(*args, **kwargs)

    def close(self, *args: Any, **kwargs: Any) -> None:
        # Of a generator that holds a stream when the program ends: the thread that would receive the other
        # side's goodbye is gone by then, and the wait for it would never end.
        if not sys.is_finalizing():
            super().close(*args, **kwargs)


class FerClient:
    """Talks to one service. Safe to use from several threads; close it, or use it in a `with` block.

    Not from several processes: one that forks shares its connections, and gets answers to others' images.

    base_url: of the service, such as `http://localhost:8000`; api_key: where the service asks for one;
    timeout: seconds without progress before httpx.TimeoutException; retry: for a service that is busy or away
    for a moment; transport, sleep: for tests and unusual networks. Raises ValueError for an API key that is
    not printable ASCII.

    An image is bytes, a path or a binary file: methods raise TypeError for anything else, a path as a string
    included, and for options there are not, and OSError for a file that cannot be read.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        retry: wire.Retry = wire.Retry(),  # noqa: B008 (frozen)
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._http = httpx.Client(
            base_url=base_url,
            headers=wire.headers(api_key),
            # Requests that wait for a connection wait for others, each of which has its time.
            timeout=httpx.Timeout(timeout, pool=None),
            transport=transport,
        )
        self._headers, self._timeout, self._retry, self._sleep = wire.headers(api_key), timeout, retry, sleep

    def detect(self, image: wire.Image, **options: Unpack[wire.Options]) -> Detection:
        """The faces of one image. Raises FerError; an image without a face is no error."""
        data = wire.read(image)
        return wire.detection(
            self._try(lambda: self._http.post("/detect-emotions", content=data, params=wire.query(options)))
        )

    def detect_batch(
        self, images: Iterable[wire.Image], **options: Unpack[wire.Options]
    ) -> list[BatchOk | BatchError]:
        """The same for several images in one request, in their order; each is fine or has its own error."""
        files = wire.files(images)
        if not files:
            return []
        return wire.batch(
            self._try(
                lambda: self._http.post("/detect-emotions/batch", files=files, params=wire.query(options))
            )
        )

    def annotate(
        self,
        image: wire.Image,
        format: wire.PictureFormat = "jpeg",  # noqa: A002
        **options: Unpack[wire.Options],
    ) -> bytes:
        """The picture, upright, with what was found drawn on it, as a JPEG or PNG file."""
        data, accept = wire.read(image), {"Accept": f"image/{format}"}
        response = self._try(
            lambda: self._http.post(
                "/detect-emotions", content=data, params=wire.query(options), headers=accept
            )
        )
        return wire.picture(response)

    def models(self) -> list[ModelInfo]:
        """The emotion models that `model` may name."""
        return wire.model_list(self._try(lambda: self._http.get("/models")))

    @contextmanager
    def stream(self, **options: Unpack[wire.Options]) -> "Iterator[Stream]":
        """Open a stream of frames; it is closed at the end of the `with` block."""
        url = wire.stream_url(self._http.base_url, options)
        with connect(
            url,
            additional_headers=self._headers,
            subprotocols=[wire.PROTOCOL],
            compression=None,
            open_timeout=self._timeout,
            max_size=None,
            close_timeout=min(self._timeout, wire.LONGEST_GOODBYE_S),
            create_connection=_Connection,
        ) as connection:
            yield Stream(connection, self._timeout)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _try(self, call: Callable[[], httpx.Response]) -> httpx.Response:
        attempt = 1
        while True:
            try:
                return wire.checked(call())
            except httpx.DecodingError as error:
                raise wire.not_ours() from error
            except (FerError, httpx.TransportError) as error:
                wait = self._retry.wait(attempt, error)
                if wait is None:
                    raise
            self._sleep(wait)
            attempt += 1


class Stream:
    """An open stream. One thread may send while another receives."""

    def __init__(self, connection: ClientConnection, timeout: float) -> None:
        self._connection, self._timeout = connection, timeout
        response = connection.response
        self._request_id = response.headers.get("X-Request-ID") if response else None
        self._sent = 0

    def ask(self, frame: wire.Image) -> StreamFrame:
        """Send a frame and wait for its answer; those of frames sent before are passed over.

        Raises FerError where the frame or the stream is refused, TimeoutError when no answer comes.
        """
        self.send(frame)
        number = self._sent
        while (answer := self.receive()).frame < number:
            pass
        if isinstance(answer, StreamError):
            raise wire.frame_error(answer)
        return answer

    def send(self, frame: wire.Image) -> None:
        """Send a frame (JPEG, PNG, WebP, ...) without waiting; the service answers the newest it has.

        Raises FerError when the stream was closed, TimeoutError, after which the stream is over, when the
        service does not take the frame.
        """
        data = wire.read(frame)
        self._sent += 1
        with wire.told(self._request_id), self._cut_off_when_late():
            self._connection.send(data)

    def receive(self) -> StreamFrame | StreamError:
        """The next answer. Raises FerError when the stream was closed, TimeoutError when none comes."""
        with wire.told(self._request_id):
            try:
                message = self._connection.recv(self._timeout)
            except TimeoutError:
                raise TimeoutError(wire.NOT_ANSWERED) from None
        return wire.stream_answer(message)

    @contextmanager
    def _cut_off_when_late(self) -> Iterator[None]:
        """Around a send. After half a frame nothing can follow, so the connection ends with it."""
        late = Event()

        def cut_off() -> None:
            late.set()
            with suppress(OSError):
                self._connection.socket.shutdown(socket.SHUT_RDWR)

        timer = Timer(self._timeout, cut_off)
        timer.daemon = True
        timer.start()
        try:
            yield
        except ConnectionClosed:
            if late.is_set():
                raise TimeoutError(wire.NOT_TAKEN) from None
            raise
        finally:
            timer.cancel()

    def __iter__(self) -> Iterator[StreamFrame | StreamError]:
        """Answers until the stream ends."""
        while True:
            try:
                yield self.receive()
            except FerError as error:
                if error.code == "closed":
                    return
                raise
