"""The Python client against the real server, and its types against the published schemas."""

import asyncio
import inspect
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from socket import create_server
from threading import Thread
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import httpx
import pytest
from websockets.http11 import Request
from websockets.server import ServerProtocol

import fer_client
from fer_client import (
    AsyncFerClient,
    BatchError,
    BatchOk,
    FerClient,
    FerError,
    Retry,
    Stream,
    StreamError,
    StreamFrame,
    types,
    wire,
)
from tests.conftest import PHOTO, Serve

ROOT = Path(__file__).parents[2]
SCHEMAS = json.loads((ROOT / "openapi" / "openapi.json").read_text())["components"]["schemas"]
NAMES = {"Box": "BoxSchema", "Face": "FaceSchema", "Landmarks": "LandmarksSchema", "Point": "PointSchema"}
NAMES |= {"Timings": "TimingsSchema"}
CLASSES = [
    value for _, value in inspect.getmembers(types, inspect.isclass) if value.__module__ == types.__name__
]
PROBLEM = {
    "type": "x",
    "title": "x",
    "status": 503,
    "detail": "busy",
    "code": "overloaded",
    "request_id": "r",
}


def schema_of(kind: Any) -> Any:
    """The JSON schema of a type, as far as this test compares them."""
    simple = {int: "integer", float: "number", str: "string", bool: "boolean"}
    if kind in simple:
        return simple[kind]
    if get_origin(kind) is list:
        return [schema_of(get_args(kind)[0])]
    if get_origin(kind) is dict:
        return {"": schema_of(get_args(kind)[1])}
    if get_origin(kind) is Literal:
        return set(get_args(kind))
    if get_origin(kind) is UnionType:
        return schema_of(next(one for one in get_args(kind) if one is not NoneType))
    return NAMES.get(kind.__name__, kind.__name__)


def shape_of(schema: Any) -> Any:
    """The same of a published schema."""
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "anyOf" in schema:
        return shape_of(schema["anyOf"][0])
    if "enum" in schema or "const" in schema:
        return set(schema.get("enum", [schema.get("const")]))
    if schema["type"] == "array":
        return [shape_of(schema["items"])]
    if schema["type"] == "object":
        return {"": shape_of(schema["additionalProperties"])}
    return schema["type"]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_types_equal_the_published_schemas(kind: Any) -> None:
    schema = SCHEMAS[NAMES.get(kind.__name__, kind.__name__)]
    assert {name: schema_of(hint) for name, hint in get_type_hints(kind).items()} == {
        name: shape_of(value) for name, value in schema["properties"].items()
    }
    required = {field.name for field in fields(kind) if field.default is MISSING}
    assert required == set(schema["required"])


def test_every_answer_has_a_type() -> None:
    answers = {"Detection", "BatchOk", "BatchError", "ModelInfo", "Problem", "StreamFrame", "StreamError"}
    assert answers <= {kind.__name__ for kind in CLASSES} <= set(fer_client.__all__)


@pytest.mark.parametrize("image", [PHOTO, PHOTO.read_bytes(), io.BytesIO(PHOTO.read_bytes())], ids=type)
def test_detect_takes_paths_bytes_and_files(url: str, image: wire.Image) -> None:
    with FerClient(url) as client:
        detection = client.detect(image, min_confidence=0.5, max_faces=3, include_crops=True)
    (face,) = detection.faces
    assert (face.dominant_emotion, detection.model.name) == ("happy", "balanced")
    assert face.probabilities.happy > 0.5
    assert face.landmarks.left_eye.x < face.landmarks.right_eye.x
    assert face.crop is not None
    assert (detection.image.width, detection.image.format) == (512, "jpeg")
    assert detection.timings_ms.total > 0


def test_batch_models_and_annotate(url: str, photo: bytes) -> None:
    with FerClient(url) as client:
        good, bad = client.detect_batch([photo, b"junk"], max_faces=1)
        assert isinstance(good, BatchOk)
        assert isinstance(bad, BatchError)
        assert (len(good.result.faces), bad.error.code) == (1, "unsupported_media_type")
        assert "balanced" in [model.name for model in client.models() if model.default]
        assert client.annotate(photo).startswith(b"\xff\xd8\xff")
        assert client.annotate(photo, "png").startswith(b"\x89PNG")


def test_a_refusal_is_one_exception_with_what_a_program_needs(url: str) -> None:
    with (
        FerClient(url) as client,
        pytest.raises(FerError, match=r"^unsupported_media_type: The bytes") as refused,
    ):
        client.detect(b"junk")
    error = refused.value
    assert (error.code, error.status, error.retry_after, error.close_code) == (
        "unsupported_media_type",
        415,
        None,
        None,
    )
    assert error.request_id


def test_a_key_is_sent_with_requests_and_streams(serve: Serve, photo: bytes) -> None:
    with serve(api_keys="sesame") as server:
        url = str(server.base_url)
        with FerClient(url, api_key="sesame") as client, client.stream() as stream:
            assert client.detect(photo).faces
            assert stream.ask(photo).faces
        with FerClient(url) as client:
            with pytest.raises(FerError) as refused:
                client.models()
            assert (refused.value.code, refused.value.status) == ("unauthorized", 401)
            with client.stream() as stream, pytest.raises(FerError) as refused:
                stream.receive()
            assert (refused.value.code, refused.value.close_code) == ("unauthorized", 1008)
            assert refused.value.request_id


def test_a_stream_follows_a_face(url: str, photo: bytes) -> None:
    with FerClient(url) as client, client.stream(min_face_size=60, max_faces=2) as stream:
        first, second = stream.ask(photo), stream.ask(io.BytesIO(photo))
        assert [first.faces[0].id, second.faces[0].id, second.frame] == [1, 1, 2]
        assert second.faces[0].raw_probabilities.happy > 0.5
        with pytest.raises(FerError) as refused:
            stream.ask(b"junk")
        assert (refused.value.code, refused.value.status) == ("unsupported_media_type", 415)
        assert stream.ask(photo).faces[0].id == 1


def test_frames_may_be_sent_while_answers_are_read(url: str, photo: bytes) -> None:
    def send_all(stream: Stream) -> None:
        for frame in (photo, photo, b"junk"):
            stream.send(frame)

    answers: list[StreamFrame | StreamError] = []
    with FerClient(url) as client, client.stream() as stream, ThreadPoolExecutor() as pool:
        sent = pool.submit(send_all, stream)
        for answer in stream:
            answers.append(answer)
            if answer.frame == 3:
                break
        sent.result()
    assert sum(answer.dropped for answer in answers) + len(answers) == answers[-1].frame == 3
    assert isinstance(answers[-1], StreamError)
    assert all(isinstance(answer, StreamFrame) for answer in answers[:-1])


def test_a_stream_that_ended_well_ends_the_loop(serve: Serve) -> None:
    with serve(stream_idle_timeout_s=0.01) as server, FerClient(str(server.base_url)) as client:
        with client.stream() as stream:
            assert list(stream) == []
        with client.stream() as stream, pytest.raises(FerError, match=r"^closed: no frame for 0\.01 s"):
            stream.receive()


@pytest.mark.parametrize("size", [1001, 1_100_000])
def test_a_frame_that_is_too_large_says_so(serve: Serve, size: int) -> None:
    """Also where the WebSocket library refuses it, a megabyte above the limit, before the service does."""
    with (
        serve(max_body_bytes=1000) as server,
        FerClient(str(server.base_url)) as client,
        client.stream() as stream,
        pytest.raises(FerError) as refused,
    ):
        stream.ask(bytes(size))
    assert (refused.value.code, refused.value.close_code) == ("body_too_large", 1009)


def test_asyncio_says_so_where_the_frame_is_still_being_sent(serve: Serve) -> None:
    async def ask(url: str) -> None:
        async with AsyncFerClient(url) as client, client.stream() as stream:
            with pytest.raises(FerError, match="body_too_large"):
                await stream.ask(bytes(30_000_000))
            await stream.send(b"another")

    with serve(max_body_bytes=1000) as server, pytest.raises(FerError) as refused:
        asyncio.run(ask(str(server.base_url)))
    assert (refused.value.code, refused.value.close_code) == ("body_too_large", 1009)


def test_asyncio_has_the_same_methods(url: str, photo: bytes) -> None:
    async def scenario() -> None:
        async with AsyncFerClient(url) as client:
            one, other = await asyncio.gather(client.detect(photo), client.detect(PHOTO))
            assert one.faces == other.faces
            assert [type(item) for item in await client.detect_batch([photo, b""])] == [BatchOk, BatchError]
            assert (await client.annotate(photo, "png")).startswith(b"\x89PNG")
            assert await client.models()
            async with client.stream(max_faces=1) as stream:
                await stream.send(photo)
                async for answer in stream:
                    assert isinstance(answer, StreamFrame)
                    break
                assert (await stream.ask(photo)).faces[0].id == 1
                with pytest.raises(FerError, match="empty_body"):
                    await stream.ask(b"")
            async with client.stream(model="nobody") as stream:
                with pytest.raises(FerError, match="invalid_parameter: No model 'nobody'"):
                    await stream.receive()

    asyncio.run(scenario())


@contextmanager
def deaf() -> Iterator[str]:
    """A service that opens one stream, and reads nothing of it."""
    with create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:

        def accept() -> None:
            connection = stack.enter_context(listener.accept()[0])
            protocol = ServerProtocol(subprotocols=[wire.PROTOCOL])
            while not (asked := protocol.events_received()):
                protocol.receive_data(connection.recv(65536))
            assert isinstance(asked[0], Request)
            protocol.send_response(protocol.accept(asked[0]))
            connection.sendall(b"".join(protocol.data_to_send()))

        thread = Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_a_service_that_does_not_read_is_given_up() -> None:
    frame = bytes(20_000_000)  # more than kernels hold

    async def scenario(url: str) -> None:
        async with AsyncFerClient(url, timeout=1) as client, client.stream() as stream:
            with pytest.raises(TimeoutError, match="did not take the frame"):
                await stream.ask(frame)

    with deaf() as url:
        asyncio.run(scenario(url))
    with deaf() as url, FerClient(url, timeout=1) as client, client.stream() as stream:
        with pytest.raises(TimeoutError, match="did not take the frame"):
            stream.ask(frame)
        with pytest.raises(FerError, match="connection_lost"):
            stream.send(b"x")


Answer = Callable[[], httpx.Response]


def answering(*answers: Answer) -> tuple[httpx.MockTransport, list[httpx.Request]]:
    """A service that gives these answers in turn, and what it was asked."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return answers[len(asked) - 1]()

    return httpx.MockTransport(answer), asked


def busy(retry_after: str | None = None) -> Answer:
    headers = {"retry-after": retry_after} if retry_after else {}
    return lambda: httpx.Response(503, json=PROBLEM, headers=headers)


def failing(status: int, code: str) -> Answer:
    return lambda: httpx.Response(status, json=PROBLEM | {"status": status, "code": code})


def bad_gateway() -> httpx.Response:
    return httpx.Response(502, text="<html>bad gateway</html>")


def no_models() -> httpx.Response:
    return httpx.Response(200, json={"models": []})


def run_sync(transport: httpx.MockTransport, sleep: Callable[[float], None], retry: Retry) -> object:
    with FerClient("http://fer", transport=transport, sleep=sleep, retry=retry) as client:
        return client.models()


def run_async(transport: httpx.MockTransport, sleep: Callable[[float], None], retry: Retry) -> object:
    async def pause(seconds: float) -> None:
        sleep(seconds)

    async def scenario() -> object:
        async with AsyncFerClient("http://fer", transport=transport, sleep=pause, retry=retry) as client:
            return await client.models()

    return asyncio.run(scenario())


@pytest.mark.parametrize("run", [run_sync, run_async])
def test_a_busy_service_is_asked_again_when_it_says(run: Callable[..., object]) -> None:
    waits: list[float] = []
    transport, asked = answering(busy("7"), busy(), no_models)
    assert run(transport, waits.append, Retry()) == []
    assert len(asked) == 3
    assert waits[0] == 7
    assert 0.5 <= waits[1] <= 1


@pytest.mark.parametrize("run", [run_sync, run_async])
@pytest.mark.parametrize(
    ("answers", "requests", "status", "code"),
    [
        ([busy("1")] * 5, 3, 503, "overloaded"),
        ([busy("31")], 1, 503, "overloaded"),
        ([failing(504, "deadline_exceeded")], 1, 504, "deadline_exceeded"),
        ([bad_gateway] * 5, 3, 502, "http_error"),
    ],
)
def test_retries_are_bounded_and_for_what_passes(
    run: Callable[..., object], answers: list[Answer], requests: int, status: int, code: str
) -> None:
    transport, asked = answering(*answers)
    with pytest.raises(FerError) as refused:
        run(transport, lambda _: None, Retry(attempts=3, longest=30))
    assert len(asked) == requests
    assert (refused.value.status, refused.value.code) == (status, code)


def broken(kind: type[httpx.RequestError]) -> Answer:
    def fail() -> httpx.Response:
        raise kind("gone")

    return fail


@pytest.mark.parametrize("run", [run_sync, run_async])
def test_a_lost_connection_is_made_again_and_a_late_answer_is_not_asked_for(
    run: Callable[..., object],
) -> None:
    transport, asked = answering(broken(httpx.ConnectError), broken(httpx.RemoteProtocolError), no_models)
    assert run(transport, lambda _: None, Retry()) == []
    assert len(asked) == 3
    kinds = {httpx.ReadError: 3, httpx.ConnectTimeout: 3, httpx.ReadTimeout: 1, httpx.WriteTimeout: 1}
    for kind, requests in kinds.items():
        transport, asked = answering(*[broken(kind)] * 5)
        with pytest.raises(kind):
            run(transport, lambda _: None, Retry())
        assert len(asked) == requests


@pytest.mark.parametrize("run", [run_sync, run_async])
def test_an_answer_that_does_not_unpack_is_not_the_service_s(run: Callable[..., object]) -> None:
    transport, asked = answering(broken(httpx.DecodingError))
    with pytest.raises(FerError, match="http_error"):
        run(transport, lambda _: None, Retry())
    assert len(asked) == 1


def test_fields_of_a_newer_service_are_ignored() -> None:
    assert types.parse(types.Point, {"x": 1, "y": 2.5, "z": 3}) == types.Point(1.0, 2.5)
    with pytest.raises(KeyError):
        types.parse(types.Point, {"x": 1})


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("http://host:8000", "ws://host:8000/stream?max_faces=1&include=crops"),
        ("https://host/fer/", "wss://host/fer/stream?max_faces=1&include=crops"),
    ],
)
def test_streams_are_found_beside_the_rest(base: str, expected: str) -> None:
    options: wire.Options = {"max_faces": 1, "include_crops": True, "model": None}
    with httpx.Client(base_url=base) as http:
        assert wire.stream_url(http.base_url, options) == expected


def programs() -> Iterator[Any]:
    """The Python programs of the pages."""
    for page in (ROOT / "clients" / "python" / "README.md", ROOT / "docs" / "stream.md"):
        for program in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S):
            yield pytest.param(program, id=page.name)


def run_program(folder: Path, *arguments: object) -> str:
    """What it prints."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True, text=True, timeout=60, check=True, cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "clients" / "python")},
    ).stdout  # fmt: skip


@pytest.mark.parametrize("program", list(programs()))
def test_the_programs_of_the_pages_run_as_written(
    url: str, photo: bytes, tmp_path: Path, program: str
) -> None:
    (tmp_path / "frames").mkdir()
    for file in ("photo.jpg", "other.jpg", "frames/1.jpg", "frames/2.jpg"):
        (tmp_path / file).write_bytes(photo)
    assert "http://localhost:8000" in program
    assert run_program(tmp_path, "-c", program.replace("http://localhost:8000", url))


LEFT_OPEN = """
from pathlib import Path
from fer_client import FerClient

def answers():
    with FerClient("http://localhost:8000") as client, client.stream() as stream:
        while True:
            yield stream.ask(Path("photo.jpg"))

left_open = answers()
print(next(left_open).frame)
"""


def test_a_stream_that_is_left_open_does_not_keep_the_program(url: str, photo: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(photo)
    assert run_program(tmp_path, "-c", LEFT_OPEN.replace("http://localhost:8000", url)) == "1\n"


@pytest.mark.parametrize("example", ["photo", "folder", "webcam"])
def test_examples_run(url: str, photo: bytes, tmp_path: Path, example: str) -> None:
    path = tmp_path / "astronaut.jpg"
    path.write_bytes(photo)
    script = ROOT / "clients" / "python" / "examples" / f"{example}.py"
    # To OpenCV a photo is a video of one frame.
    arguments = {
        "photo": [str(path), url],
        "folder": [str(tmp_path), url],
        "webcam": [url, str(path)],
    }[example]
    assert "happy" in run_program(tmp_path, script, *arguments)
