"""How images are sent with asyncio, where each write has the timeout for itself."""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import cast

import httpx
import pytest

from fer_client import AsyncFerClient, FerError

IMAGE = bytes(range(256)) * 1000


class Uploads(httpx.AsyncBaseTransport):
    """A service that is busy, and the writes that each request takes."""

    def __init__(self) -> None:
        self.heads: list[httpx.Headers] = []
        self.bodies: list[list[bytes]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.heads.append(request.headers)
        self.bodies.append([part async for part in cast("AsyncIterable[bytes]", request.stream)])
        return httpx.Response(503)


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.detect(IMAGE),
        lambda client: client.detect_batch([IMAGE]),
        lambda client: client.annotate(IMAGE),
    ],
    ids=["detect", "detect_batch", "annotate"],
)
def test_a_slow_upload_that_gets_on_is_not_given_up(
    ask: Callable[[AsyncFerClient], Awaitable[object]],
) -> None:
    async def no_sleep(_seconds: float) -> None:
        pass

    async def scenario() -> None:
        async with AsyncFerClient("http://fer", transport=uploads, sleep=no_sleep) as client:
            await ask(client)

    uploads = Uploads()
    with pytest.raises(FerError):
        asyncio.run(scenario())
    assert len(uploads.bodies) == 3
    for head, parts in zip(uploads.heads, uploads.bodies, strict=True):
        assert max(map(len, parts)) <= 65536
        assert IMAGE in b"".join(parts)
        assert (head["content-length"], head.get("transfer-encoding")) == (str(len(b"".join(parts))), None)
