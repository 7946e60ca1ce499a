"""The client for asyncio."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self, Unpack

import httpx
from websockets.asyncio.client import ClientConnection, connect

from fer_client import wire
from fer_client.errors import FerError
from fer_client.types import BatchError, BatchOk, Detection, ModelInfo, StreamError, StreamFrame


class _Gone(asyncio.Transport):
    """A transport that is closed. Websockets aborts it at each later use, and asyncio's own may then fail.

    That does where it wrote its last bytes while it was closing: AttributeError, of a loop that it let go.
    """

    def abort(self) -> None:
        """Nothing is left to close."""

    def is_closing(self) -> bool:
        return True


class _Connection(ClientConnection):
    async def handshake(self, *args: Any, **kwargs: Any) -> None:
        with wire.not_redirected():
            await super().handshake(*args, **kwargs)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.transport = _Gone()


_PART = 65536


async def _parts(data: bytes) -> AsyncIterator[bytes]:
    """A body as parts, for each of which the timeout starts anew, as for a form's: sent whole, it has one."""
    for start in range(0, len(data), _PART):
        yield data[start : start + _PART]


class AsyncFerClient:
    """`FerClient` for asyncio, used from one event loop; close it, or use it in an `async with` block."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        retry: wire.Retry = wire.Retry(),  # noqa: B008 (frozen)
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._http = httpx.AsyncClient(
            base_url=base_url,
            headers=wire.headers(api_key),
            # Requests that wait for a connection wait for others, each of which has its time.
            timeout=httpx.Timeout(timeout, pool=None),
            transport=transport,
        )
        self._headers, self._timeout, self._retry, self._sleep = wire.headers(api_key), timeout, retry, sleep

    async def detect(self, image: wire.Image, **options: Unpack[wire.Options]) -> Detection:
        """The faces of one image. Raises FerError; an image without a face is no error."""
        return wire.detection(await self._post(image, "*/*", options))

    async def detect_batch(
        self, images: Iterable[wire.Image], **options: Unpack[wire.Options]
    ) -> list[BatchOk | BatchError]:
        """The same for several images in one request, in their order; each is fine or has its own error."""
        files = await asyncio.to_thread(wire.files, images)
        if not files:
            return []
        return wire.batch(
            await self._try(
                lambda: self._http.post("/detect-emotions/batch", files=files, params=wire.query(options))
            )
        )

    async def annotate(
        self,
        image: wire.Image,
        format: wire.PictureFormat = "jpeg",  # noqa: A002
        **options: Unpack[wire.Options],
    ) -> bytes:
        """The picture, upright, with what was found drawn on it, as a JPEG or PNG file."""
        return wire.picture(await self._post(image, f"image/{format}", options))

    async def models(self) -> list[ModelInfo]:
        """The emotion models that `model` may name."""
        return wire.model_list(await self._try(lambda: self._http.get("/models")))

    @asynccontextmanager
    async def stream(self, **options: Unpack[wire.Options]) -> "AsyncIterator[AsyncStream]":
        """Open a stream of frames; it is closed at the end of the `async with` block."""
        url = wire.stream_url(self._http.base_url, options)
        async with connect(
            url,
            additional_headers=self._headers,
            subprotocols=[wire.PROTOCOL],
            compression=None,
            open_timeout=self._timeout,
            max_size=None,
            close_timeout=min(self._timeout, wire.LONGEST_GOODBYE_S),
            create_connection=_Connection,
        ) as connection:
            yield AsyncStream(connection, self._timeout)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _post(self, image: wire.Image, accept: str, options: wire.Options) -> httpx.Response:
        data = await asyncio.to_thread(wire.read, image)
        headers = {"Accept": accept, "Content-Length": str(len(data))}
        return await self._try(
            lambda: self._http.post(
                "/detect-emotions", content=_parts(data), params=wire.query(options), headers=headers
            )
        )

    async def _try(self, call: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
        attempt = 1
        while True:
            try:
                return wire.checked(await call())
            except httpx.DecodingError as error:
                raise wire.not_ours() from error
            except (FerError, httpx.TransportError) as error:
                wait = self._retry.wait(attempt, error)
                if wait is None:
                    raise
            await self._sleep(wait)
            attempt += 1


class AsyncStream:
    """An open stream. One task may send while another receives."""

    def __init__(self, connection: ClientConnection, timeout: float) -> None:
        self._connection, self._timeout = connection, timeout
        response = connection.response
        self._request_id = response.headers.get("X-Request-ID") if response else None
        self._sent = 0

    async def ask(self, frame: wire.Image) -> StreamFrame:
        """Send a frame and wait for its answer; those of frames sent before are passed over.

        Raises FerError where the frame or the stream is refused, TimeoutError when no answer comes.
        """
        await self.send(frame)
        number = self._sent
        while (answer := await self.receive()).frame < number:
            pass
        if isinstance(answer, StreamError):
            raise wire.frame_error(answer)
        return answer

    async def send(self, frame: wire.Image) -> None:
        """Send a frame (JPEG, PNG, WebP, ...) without waiting; the service answers the newest it has.

        Raises FerError when the stream was closed, TimeoutError, after which the stream is over, when the
        service does not take the frame.
        """
        data = await asyncio.to_thread(wire.read, frame)
        self._sent += 1
        with wire.told(self._request_id):
            try:
                async with asyncio.timeout(self._timeout):
                    await self._connection.send(data)
            except TimeoutError:
                # After half a frame nothing can follow, not even a goodbye.
                self._connection.transport.abort()
                raise TimeoutError(wire.NOT_TAKEN) from None

    async def receive(self) -> StreamFrame | StreamError:
        """The next answer. Raises FerError when the stream was closed, TimeoutError when none comes."""
        with wire.told(self._request_id):
            try:
                async with asyncio.timeout(self._timeout):
                    message = await self._connection.recv()
            except TimeoutError:
                raise TimeoutError(wire.NOT_ANSWERED) from None
        return wire.stream_answer(message)

    async def __aiter__(self) -> AsyncIterator[StreamFrame | StreamError]:
        """Answers until the stream ends."""
        while True:
            try:
                yield await self.receive()
            except FerError as error:
                if error.code == "closed":
                    return
                raise
