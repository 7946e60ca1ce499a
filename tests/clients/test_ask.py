"""`ask` gives the answer to its own frame, whatever was sent before it."""

import asyncio
import io
import json
from typing import Any, cast

import pytest
from PIL import Image

from fer_client import AsyncFerClient, AsyncStream, FerClient, FerError, Stream, StreamFrame

PROBLEM = {"type": "x", "title": "x", "status": 422, "detail": "no image", "request_id": "r"}


@pytest.fixture(scope="module")
def blank() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "PNG")
    return buffer.getvalue()


class LateConnection:
    """Refuses every frame in turn, but tells nothing of the first before the second was sent."""

    response = None

    def __init__(self) -> None:
        self._sent = self._answered = 0

    def send(self, _frame: bytes) -> None:
        self._sent += 1

    def recv(self, _timeout: float | None = None) -> str:
        if self._sent == 1:
            raise TimeoutError
        self._answered += 1
        error = PROBLEM | {"code": f"refused_{self._answered}"}
        return json.dumps({"status": "error", "frame": self._answered, "dropped": 0, "error": error})


class AsyncLateConnection(LateConnection):
    """The same for asyncio."""

    async def send(self, frame: bytes) -> None:  # type: ignore[override]
        super().send(frame)

    async def recv(self) -> str:  # type: ignore[override]
        return super().recv()


def of_the_blank(answer: StreamFrame) -> bool:
    return (answer.frame, answer.image.width, answer.faces) == (3, 64, [])


def test_a_frame_sent_before_is_not_what_was_asked(url: str, photo: bytes, blank: bytes) -> None:
    with FerClient(url) as client, client.stream() as stream:
        stream.ask(photo)
        stream.send(photo)
        assert of_the_blank(stream.ask(blank))


def test_nor_is_it_with_asyncio(url: str, photo: bytes, blank: bytes) -> None:
    async def scenario() -> None:
        async with AsyncFerClient(url) as client, client.stream() as stream:
            await stream.ask(photo)
            await stream.send(photo)
            assert of_the_blank(await stream.ask(blank))

    asyncio.run(scenario())


def test_an_answer_that_came_too_late_is_passed_over() -> None:
    stream = Stream(cast("Any", LateConnection()), 1)
    with pytest.raises(TimeoutError):
        stream.ask(b"first")
    with pytest.raises(FerError, match="refused_2"):
        stream.ask(b"second")


def test_it_is_passed_over_with_asyncio() -> None:
    async def scenario() -> None:
        stream = AsyncStream(cast("Any", AsyncLateConnection()), 1)
        with pytest.raises(TimeoutError):
            await stream.ask(b"first")
        with pytest.raises(FerError, match="refused_2"):
            await stream.ask(b"second")

    asyncio.run(scenario())


def test_a_frame_that_could_not_be_read_is_not_waited_for(url: str, photo: bytes) -> None:
    with FerClient(url) as client, client.stream() as stream:
        with pytest.raises(ValueError, match="closed file"):
            stream.ask(closed_file())
        assert stream.ask(photo).frame == 1


def closed_file() -> io.BytesIO:
    file = io.BytesIO()
    file.close()
    return file
