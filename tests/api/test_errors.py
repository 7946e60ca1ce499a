"""Every error code, as a client meets it."""

import asyncio
import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from service.api.errors import ALL_KINDS
from service.api.middleware import RequestMiddleware
from service.lifespan import load
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import NO_TRACING
from service.vision.errors import ImageTooLargeError
from tests.conftest import Gated, Serve

API_DOCUMENT = Path(__file__).parents[2] / "docs" / "api.md"
URL = "/detect-emotions"
FORM = {"content-type": "multipart/form-data; boundary=b"}


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_claiming(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(b"")), png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def assert_problem(response: httpx.Response, status: int, code: str) -> None:
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["type"] == f"urn:fer-service:problem:{code}"
    assert problem["request_id"] == response.headers["x-request-id"]
    assert set(problem) == {"type", "title", "status", "detail", "code", "request_id"}


@pytest.mark.parametrize(
    ("status", "code", "request_"),
    [
        (400, "empty_body", {}),
        (400, "empty_body", {"files": {"photo": b"x"}}),
        (400, "empty_body", {"files": {"image": b""}}),
        (400, "empty_body", {"json": {"image": ""}}),
        (400, "malformed_body", {"content": b"{", "headers": {"content-type": "application/json"}}),
        (400, "malformed_body", {"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}),
        (400, "malformed_body", {"json": {"picture": "x"}}),
        (400, "malformed_body", {"json": {"image": 5}}),
        (400, "malformed_body", {"json": {"image": [1] * 2_000}}),
        (400, "malformed_body", {"json": {"image": "not base64!"}}),
        (400, "malformed_body", {"json": {"image": "data:image/png,plain"}}),
        (400, "malformed_body", {"content": b"x", "headers": {"content-type": "multipart/form-data"}}),
        (400, "malformed_body", {"content": b"no boundary here", "headers": FORM}),
        (400, "malformed_body", {"content": b"--b\r\nContent-Disposition: form-data; name=image\r\n\r\nx",
                                 "headers": FORM}),
        (400, "malformed_body", {"files": [(f"f{i}", b"x") for i in range(50)]}),
        (400, "malformed_body", {"content": b"--b\r\n" + 9 * b"A: b\r\n" + b"\r\nx\r\n--b--",
                                 "headers": FORM}),
        (400, "malformed_body", {"content": b"--b\r\nA: " + 5_000 * b"b" + b"\r\n\r\nx\r\n--b--",
                                 "headers": FORM}),
        (415, "unsupported_media_type", {"content": b"--b\r\nContent-Disposition: form-data; name=image\r\n"
                                                    b"\r\nx\r\n--b\r\nA: b\r\n\r\ny\r\n--b--",
                                         "headers": FORM}),
        (413, "too_many_images", {"files": [("image", b"x"), ("image", b"y")]}),
        (415, "unsupported_media_type", {"content": b"GIF?", "headers": {"content-type": "image/png"}}),
        (413, "image_too_large", {"content": png_claiming(60_000, 60_000)}),
        (422, "invalid_image", {"content": png_claiming(60, 60)}),
        (406, "not_acceptable", {"content": b"x", "headers": {"accept": "text/html"}}),
        (406, "not_acceptable", {"content": b"x", "headers": {"accept": "application/json;q=0"}}),
        (422, "invalid_parameter", {"params": {"model": "nobody"}}),
        (422, "invalid_parameter", {"params": {"min_confidence": "1.1"}}),
        (422, "invalid_parameter", {"params": {"min_confidence": "nan"}}),
        (422, "invalid_parameter", {"params": {"max_faces": "0"}}),
        (422, "invalid_parameter", {"params": {"max_faces": "99999999999999999999"}}),
        (422, "invalid_parameter", {"params": {"include": "everything"}}),
        (422, "invalid_parameter", {"headers": {"x-request-timeout-ms": "-5"}}),
        (422, "invalid_parameter", {"headers": {"x-request-timeout-ms": "soon"}}),
    ],
)  # fmt: skip
def test_bad_requests_get_their_code(
    client: httpx.Client, status: int, code: str, request_: dict[str, Any]
) -> None:
    assert_problem(client.post(URL, **request_), status, code)


@pytest.mark.parametrize(
    ("request_", "status", "told"),
    [
        ({"content": b'{"image": "/9j/"}'}, 415, "Content-Type: application/json"),
        ({"files": {"image": (None, "data:image/png;base64,AA==")}}, 415, "is sent as JSON"),
        ({"json": {"image": "https://example.org/photo.jpg"}}, 400, "no URL is fetched"),
    ],
)
def test_who_sends_text_is_told_what_to_send(
    client: httpx.Client, request_: dict[str, Any], status: int, told: str
) -> None:
    response = client.post(URL, **request_)
    assert response.status_code == status
    assert told in response.json()["detail"]


def test_unknown_paths_and_methods(client: httpx.Client) -> None:
    assert_problem(client.get("/nothing"), 404, "not_found")
    response = client.get(URL)
    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


def test_nobody_is_sent_elsewhere_with_photo_and_key(client: httpx.Client, photo: bytes) -> None:
    """A redirect would name the scheme that came here, behind a proxy that ends TLS an open one."""
    for path in ("/detect-emotions/", "/analyze/"):
        assert_problem(client.post(path, content=photo), 404, "not_found")


def test_reading_stops_at_the_body_limit(serve: Serve, photo: bytes) -> None:
    with serve(max_body_bytes=len(photo)) as client:
        assert client.post(URL, content=photo).status_code == 200
        assert_problem(client.post(URL, content=photo + b"x"), 413, "body_too_large")
        assert_problem(client.post(URL, content=iter([photo, b"x"])), 413, "body_too_large")


def test_the_largest_picture_is_that_of_the_settings(photo: bytes) -> None:
    _, pipeline = load(Settings(_env_file=None, max_pixels=512 * 512 - 1))
    with pytest.raises(ImageTooLargeError):
        pipeline.analyze(photo)


def test_a_truncated_photo_is_refused(client: httpx.Client, photo: bytes) -> None:
    assert_problem(client.post(URL, content=photo[: len(photo) // 2]), 422, "invalid_image")


def test_a_key_is_asked_for_where_work_is_done(serve: Serve, photo: bytes) -> None:
    with serve(api_keys="old, new") as client:
        for headers in ({}, {"x-api-key": "wrong"}, {"x-api-key": ""}, {"x-api-key": "old, new"}):
            assert_problem(client.post(URL, content=photo, headers=headers), 401, "unauthorized")
        refusal = client.get("/models")
        assert_problem(refusal, 401, "unauthorized")
        assert refusal.headers["www-authenticate"] == "ApiKey"
        for key in ("old", "new"):
            assert client.post(URL, content=photo, headers={"x-api-key": key}).status_code == 200
        assert client.get("/livez").status_code == client.get("/readyz").status_code == 200


def test_a_short_deadline_is_kept_and_a_long_one_does_not_lengthen(gated: Gated, photo: bytes) -> None:
    for limit, wish in ((0.5, "60000"), (30, "1")):
        with gated(request_timeout_s=limit) as (client, _):
            response = client.post(URL, content=photo, headers={"x-request-timeout-ms": wish})
            assert_problem(response, 504, "deadline_exceeded")


@pytest.mark.parametrize("wish", ["0000000000060000", "60000", "9" * 5000])
def test_a_deadline_is_the_number_that_was_sent(client: httpx.Client, photo: bytes, wish: str) -> None:
    assert client.post(URL, content=photo, headers={"x-request-timeout-ms": wish}).status_code == 200


@pytest.mark.parametrize("wish", ["0", "00000000000000", "", "1.5", "\uff11"])
def test_a_deadline_that_is_no_positive_whole_number_is_refused(client: httpx.Client, wish: str) -> None:
    headers = [(b"x-request-timeout-ms", wish.encode())]
    assert_problem(client.post(URL, content=b"x", headers=headers), 422, "invalid_parameter")


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("http", {"type": "http.response.start", "status": 200, "headers": []}),
        ("websocket", {"type": "websocket.close"}),
    ],
)
def test_what_fails_after_its_answer_is_counted_and_not_answered_again(kind: str, answer: Message) -> None:
    sent: list[str] = []

    async def broken(_: Scope, __: Receive, send: Send) -> None:
        await send(answer)
        raise RuntimeError("a bug")

    async def receive() -> Message:
        raise AssertionError("nothing comes")

    async def collect(message: Message) -> None:
        sent.append(message["type"])

    metrics = Metrics(queued=lambda: 0, inflight=lambda: 0, streams=lambda: 0, ready=lambda: 1)
    scope = {"type": kind, "scheme": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run(RequestMiddleware(broken, metrics, NO_TRACING)(scope, receive, collect))
    assert sent == [answer["type"]]
    assert metrics.registry.get_sample_value("fer_rejected_total", {"code": "internal_error"}) == 1


def test_problems_say_nothing_of_the_server(client: httpx.Client) -> None:
    for body in (b"", b"\xff\xd8\xff\xe0broken", png_claiming(60, 60), json.dumps({"image": "!"}).encode()):
        text = client.post(URL, content=body).text
        assert "Traceback" not in text
        assert "/" not in text.replace("application/json", "").replace("problem+json", "")


def test_the_documentation_lists_every_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \|", API_DOCUMENT.read_text(), re.MULTILINE)
    assert rows == [(kind.code, str(kind.status)) for kind in ALL_KINDS]
