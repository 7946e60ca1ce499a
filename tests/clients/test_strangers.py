"""What the client makes of answers that are not the service's, and of gateways before it."""

import asyncio
import json
from collections.abc import Callable, Iterator
from http import HTTPStatus
from threading import Thread
from typing import Any, cast

import httpx
import pytest
from websockets.exceptions import SecurityError
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from fer_client import AsyncFerClient, AsyncStream, FerClient, FerError, Retry, Stream, wire

PROBLEM = {
    "type": "x",
    "title": "x",
    "status": 503,
    "detail": "busy",
    "code": "overloaded",
    "request_id": "r",
}
NOW = "Sun, 06 Nov 1994 08:49:37 GMT"
IN_SEVEN_SECONDS = "Sun, 06 Nov 1994 08:49:44 GMT"


def answers_with(answer: httpx.Response) -> httpx.MockTransport:
    return httpx.MockTransport(lambda _request: answer)


def refusal(answer: httpx.Response) -> FerError:
    with (
        FerClient("http://fer", transport=answers_with(answer), retry=Retry(attempts=1)) as client,
        pytest.raises(FerError) as refused,
    ):
        client.detect(b"image")
    return refused.value


STRANGE = {
    "page": b"<html>log in</html>",
    "nothing": b"",
    "other object": b"{}",
    "list": b"[1]",
    "null": b'{"image": null, "faces": null, "model": null, "timings_ms": null}',
    "no UTF-8": b'{"image": "\xff"}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("body", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.detect(b"image"),
        lambda client: client.detect_batch([b"image"]),
        lambda client: client.annotate(b"image"),
        lambda client: client.models(),
    ],
    ids=["detect", "detect_batch", "annotate", "models"],
)
def test_an_answer_that_is_not_the_service_s_is_one_exception(
    ask: Callable[[FerClient], object], body: bytes
) -> None:
    with (
        FerClient("http://fer", transport=answers_with(httpx.Response(200, content=body))) as client,
        pytest.raises(FerError, match="what answers here is not fer-service") as refused,
    ):
        ask(client)
    assert (refused.value.code, refused.value.status) == ("http_error", 200)


class Saying:
    """A connection that takes every frame and says one thing."""

    response = None

    def __init__(self, message: bytes) -> None:
        self._message = message

    def send(self, _frame: bytes) -> None:
        pass

    def recv(self, _timeout: float | None = None) -> bytes:
        return self._message


class AsyncSaying(Saying):
    """The same for asyncio."""

    async def send(self, frame: bytes) -> None:  # type: ignore[override]
        super().send(frame)

    async def recv(self) -> bytes:  # type: ignore[override]
        return super().recv()


FRAME_IN_WORDS = json.dumps({"status": "error", "frame": "one", "dropped": 0, "error": PROBLEM}).encode()


@pytest.mark.parametrize("message", [*STRANGE.values(), FRAME_IN_WORDS], ids=[*STRANGE, "frame in words"])
def test_nor_is_it_another_one_in_a_stream(message: bytes) -> None:
    async def scenario() -> None:
        await AsyncStream(cast("Any", AsyncSaying(message)), 1).ask(b"frame")

    with pytest.raises(FerError, match="http_error"):
        Stream(cast("Any", Saying(message)), 1).ask(b"frame")
    with pytest.raises(FerError, match="http_error"):
        asyncio.run(scenario())


@pytest.mark.parametrize("field", PROBLEM)
@pytest.mark.parametrize("value", [None, [1]])
def test_a_problem_of_other_types_is_none(field: str, value: object) -> None:
    error = refusal(httpx.Response(400, json=PROBLEM | {field: value}))
    assert (error.code, error.detail, error.status) == ("http_error", "400 Bad Request", 400)


def test_the_status_is_that_of_the_answer() -> None:
    error = refusal(httpx.Response(400, json=PROBLEM))
    assert (error.code, error.status) == ("overloaded", 400)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": IN_SEVEN_SECONDS, "date": NOW}, 7),
        ({"retry-after": NOW, "date": IN_SEVEN_SECONDS}, 0),
        ({"retry-after": IN_SEVEN_SECONDS}, 0),  # long ago
        ({"retry-after": "Sun, 06 Nov 1994 08:49:44 -0000", "date": NOW}, 7),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": f"{NOW[:-4]} +9999999999999999"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert refusal(httpx.Response(503, json=PROBLEM, headers=headers)).retry_after == seconds


def test_a_gateway_s_limit_is_waited_for() -> None:
    answers = iter(
        [httpx.Response(429, headers={"retry-after": "7"}), httpx.Response(200, json={"models": []})]
    )
    waits: list[float] = []
    transport = httpx.MockTransport(lambda _request: next(answers))
    with FerClient("http://fer", transport=transport, sleep=waits.append) as client:
        assert client.models() == []
    assert waits == [7]


def test_a_wait_that_was_doubled_ever_so_often_is_the_longest() -> None:
    error = FerError("overloaded", "busy", 503)
    assert Retry(attempts=1_000_000, longest=30).wait(999_999, error) == 30


def test_a_redirect_tells_where_to() -> None:
    error = refusal(httpx.Response(308, headers={"location": "https://fer/detect-emotions"}))
    assert error.detail == "308 Permanent Redirect, to https://fer/detect-emotions"


@pytest.fixture
def redirecting() -> Iterator[tuple[str, list[str | None]]]:
    """A service that sends streams to itself again, and the keys that it was shown."""
    keys: list[str | None] = []

    def redirect(connection: ServerConnection, request: Request) -> Response:
        keys.append(request.headers.get("X-API-Key"))
        response = connection.respond(HTTPStatus.TEMPORARY_REDIRECT, "")
        response.headers["Location"] = "/elsewhere"
        return response

    with serve(lambda _: None, "127.0.0.1", 0, process_request=redirect) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}", keys
        server.shutdown()
        thread.join()


def test_a_key_does_not_follow_a_stream_s_redirect(redirecting: tuple[str, list[str | None]]) -> None:
    url, keys = redirecting

    async def scenario() -> None:
        async with AsyncFerClient(url, api_key="sesame") as client, client.stream():
            pass

    with (
        FerClient(url, api_key="sesame") as client,
        pytest.raises(SecurityError, match="HTTP 307: a redirect"),
        client.stream(),
    ):
        pass
    with pytest.raises(SecurityError, match="HTTP 307: a redirect"):
        asyncio.run(scenario())
    assert keys == ["sesame", "sesame"]


def test_an_empty_batch_asks_for_nothing() -> None:
    async def scenario() -> object:
        async with AsyncFerClient("http://fer", transport=httpx.MockTransport(unasked)) as client:
            return await client.detect_batch([])

    def unasked(_request: httpx.Request) -> httpx.Response:
        raise AssertionError

    with FerClient("http://fer", transport=httpx.MockTransport(unasked)) as client:
        assert client.detect_batch(iter(())) == []
    assert asyncio.run(scenario()) == []


def test_a_request_waits_for_a_connection_as_long_as_it_takes() -> None:
    """Those before it have their time limits; one of a thousand at once must not fail for its place."""
    limits: list[dict[str, float | None]] = []

    def note(request: httpx.Request) -> httpx.Response:
        limits.append(request.extensions["timeout"])
        return httpx.Response(200, json={"models": []})

    with FerClient("http://fer", timeout=5, transport=httpx.MockTransport(note)) as client:
        client.models()

    async def scenario() -> None:
        async with AsyncFerClient("http://fer", timeout=5, transport=httpx.MockTransport(note)) as client:
            await client.models()

    asyncio.run(scenario())
    assert limits == [{"connect": 5, "read": 5, "write": 5, "pool": None}] * 2


def test_options_are_those_there_are() -> None:
    assert wire.query({"include_crops": True, "max_faces": None}) == {"include": "crops"}
    assert wire.query({"include_crops": False}) == {}
    assert wire.query(cast("wire.Options", {"include_crops": 1})) == {"include": "crops"}
    with (
        FerClient("http://fer") as client,
        pytest.raises(TypeError, match="no option min_conf: there are model"),
    ):
        client.detect(b"image", min_conf=0.9)  # type: ignore[call-arg]
