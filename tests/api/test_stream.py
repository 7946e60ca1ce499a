"""WS /stream over a real socket: answers, order, dropped frames, limits, keys, endings."""

import asyncio
import base64
import gc
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx
import pytest
from fastapi import WebSocket
from numpy.typing import NDArray
from pydantic import TypeAdapter
from starlette.types import Message
from starlette.websockets import WebSocketState
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from service.api.connections import Connection
from service.api.errors import problem_of
from service.api.schemas import StreamFrame
from service.api.sockets import refuse
from service.api.streaming import Mailbox, StreamSession
from service.keys import digest
from service.lifespan import lifespan
from service.main import create_app
from service.runtime.engine import OverloadedError
from service.runtime.model_store import DETECTOR_GRAPHS
from service.server import server_config
from service.settings import Settings
from service.vision.mtcnn import Mtcnn
from service.vision.pipeline import EmotionPipeline
from tests.api.test_errors import png_claiming
from tests.conftest import Gated, Loaded, Serve, running, serving, until


class Broken:
    """A graph that fails."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        raise RuntimeError(f"a secret of {sorted(inputs)}")


@contextmanager
def opened(client: httpx.Client, query: str = "", **options: Any) -> Iterator[ClientConnection]:
    url = f"ws://{client.base_url.host}:{client.base_url.port}/stream{query}"
    with connect(url, proxy=None, compression=None, max_size=None, **options) as stream:
        yield stream


def ask(stream: ClientConnection, frame: bytes | str) -> Any:
    stream.send(frame)
    return json.loads(stream.recv(30))


def ending(stream: ClientConnection) -> tuple[int, str]:
    """Code and reason of the close frame, whatever answers come before it."""
    with suppress(ConnectionClosed):
        for _ in stream:
            pass
    assert stream.close_code is not None
    assert stream.close_reason is not None
    return stream.close_code, stream.close_reason


def frames_counted(client: httpx.Client, outcome: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    name = f'fer_stream_frames_total{{outcome="{outcome}"}} '
    return next(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def test_a_face_keeps_its_id_and_is_analyzed_as_a_photo_is(client: httpx.Client, photo: bytes) -> None:
    expected = client.post("/detect-emotions", content=photo).json()
    with opened(client) as stream:
        first, second = ask(stream, photo), ask(stream, photo)
    assert {key: first[key] for key in ("image", "model")} == {
        key: expected[key] for key in ("image", "model")
    }
    (face,), (known,) = first["faces"], expected["faces"]
    assert {key: face[key] for key in known} == known
    assert face["raw_probabilities"] == face["probabilities"]
    assert (first["status"], first["frame"], first["dropped"], first["full_search"]) == ("ok", 1, 0, True)
    assert (second["frame"], second["dropped"]) == (2, 0)
    assert [face["id"] for face in first["faces"]] == [face["id"] for face in second["faces"]] == [1]


def test_a_frame_s_answer_is_what_its_schema_says(client: httpx.Client, photo: bytes) -> None:
    with opened(client, "?include=crops") as stream:
        stream.send(photo)
        TypeAdapter(StreamFrame).validate_json(stream.recv(30))


def test_query_parameters_mean_what_they_mean_for_a_photo(client: httpx.Client, photo: bytes) -> None:
    with opened(client, "?min_confidence=1") as stream:
        assert ask(stream, photo)["faces"] == []
    with opened(client, "?model=balanced&max_faces=1&include=crops") as stream:
        (face,) = ask(stream, photo)["faces"]
    assert base64.b64decode(face["crop"]).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"", "empty_body"),
        (b"no image", "unsupported_media_type"),
        ("data:image/png;base64,", "unsupported_media_type"),
        (png_claiming(60, 60), "invalid_image"),
        (png_claiming(60_000, 60_000), "image_too_large"),
    ],
)
def test_a_bad_frame_is_told_and_the_stream_goes_on(
    client: httpx.Client, photo: bytes, frame: bytes | str, code: str
) -> None:
    with opened(client, additional_headers={"x-request-id": "my-stream"}) as stream:
        assert stream.response is not None
        assert stream.response.headers["x-request-id"] == "my-stream"
        assert ask(stream, photo)["faces"][0]["id"] == 1
        answer = ask(stream, frame)
        assert (answer["status"], answer["frame"], answer["dropped"]) == ("error", 2, 0)
        assert (answer["error"]["code"], answer["error"]["request_id"]) == (code, "my-stream")
        assert ask(stream, photo)["faces"][0]["id"] == 1


def test_the_newest_frame_wins_and_the_client_is_told(gated: Gated, photo: bytes) -> None:
    with gated() as (client, gate), opened(client) as stream:
        stream.send(photo)
        assert gate.entered.wait(30)
        for _ in range(4):
            stream.send(photo)
        until(lambda: frames_counted(client, "dropped") >= 3)
        gate.open.set()
        answers = [json.loads(stream.recv(30)) for _ in range(2)]
        assert [(answer["frame"], answer["dropped"]) for answer in answers] == [(1, 0), (5, 3)]
        assert frames_counted(client, "ok") == 2


def test_a_mailbox_holds_the_newest_frame_only() -> None:
    async def scenario() -> None:
        mailbox = Mailbox()
        assert [mailbox.put(data) for data in (b"a", b"b", b"c")] == [False, True, True]
        taken = await mailbox.take()
        assert taken is not None
        assert (taken.number, taken.dropped, taken.data) == (3, 2, b"c")
        mailbox.put(b"d")
        mailbox.close()
        assert await mailbox.take() is None

    asyncio.run(scenario())


def test_a_frame_over_the_limit_ends_the_stream(serve: Serve, photo: bytes) -> None:
    with serve(max_body_bytes=len(photo)) as client, opened(client) as stream:
        assert ask(stream, photo)["status"] == "ok"
        stream.send(photo + b"x")
        assert ending(stream) == (1009, f"body_too_large: The frame is larger than {len(photo)} bytes")


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("?model=nobody", "invalid_parameter: No model 'nobody'"),
        ("?min_face_size=1", "invalid_parameter: min_face_size: Input should be greater than"),
        ("?include=everything", "invalid_parameter: include: Input should be 'crops'"),
    ],
)
def test_a_bad_parameter_is_a_policy_violation(client: httpx.Client, query: str, reason: str) -> None:
    with opened(client, query) as stream:
        code, told = ending(stream)
    assert code == 1008
    assert told.startswith(reason)


@pytest.mark.parametrize("state", [WebSocketState.CONNECTING, WebSocketState.CONNECTED])
def test_a_client_that_has_left_is_told_nothing(state: WebSocketState) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)
        raise OSError("nobody is there")

    socket = WebSocket({"type": "websocket", "subprotocols": [], "headers": []}, receive, send)
    socket.application_state = state
    asyncio.run(refuse(socket, problem_of(OverloadedError(1), "an id")))
    assert len(sent) == 1


def test_a_key_comes_in_a_header_or_as_a_subprotocol(serve: Serve, photo: bytes) -> None:
    secret = "schlüssel?>".encode()
    key = base64.urlsafe_b64encode(secret).decode().rstrip("=")
    good: list[dict[str, Any]] = [
        {"additional_headers": {"x-api-key": "plain"}},
        {"subprotocols": [Subprotocol("fer.v1"), Subprotocol(f"fer.key.{key}")]},
    ]
    bad: list[dict[str, Any]] = [
        {},
        {"additional_headers": {"x-api-key": "wrong"}},
        {"subprotocols": [Subprotocol("fer.v1"), Subprotocol("fer.key.plain")]},
        {"subprotocols": [Subprotocol("fer.v1"), Subprotocol("fer.key.!")]},
    ]
    with serve(api_keys=f"plain, {digest(secret)}") as client:
        for options in good:
            with opened(client, **options) as stream:
                assert ask(stream, photo)["status"] == "ok"
                assert stream.subprotocol == ("fer.v1" if "subprotocols" in options else None)
        for options in bad:
            with opened(client, **options) as stream:
                code, reason = ending(stream)
                assert (code, reason.split(":")[0]) == (1008, "unauthorized")
        with opened(client, "?api_key=plain") as stream:
            assert ending(stream)[0] == 1008


def test_no_more_streams_than_allowed(serve: Serve, photo: bytes) -> None:
    with serve(max_streams=1) as client:
        with opened(client) as stream:
            assert ask(stream, photo)["status"] == "ok"
            assert "fer_streams 1.0" in client.get("/metrics").text
            with opened(client) as other:
                assert ending(other) == (1013, "overloaded: The service has as many streams as it takes")
            assert ask(stream, photo)["status"] == "ok"
        until(lambda: "fer_streams 0.0" in client.get("/metrics").text)
        with opened(client) as stream:
            assert ask(stream, photo)["status"] == "ok"


def test_each_frame_is_admitted_as_a_request_is(gated: Gated, photo: bytes) -> None:
    with gated(workers=1, queue_size=0) as (client, gate), opened(client) as stream, opened(client) as other:
        stream.send(photo)
        assert gate.entered.wait(30)
        assert ask(other, photo)["error"]["code"] == "overloaded"
        gate.open.set()
        assert json.loads(stream.recv(30))["status"] == "ok"


def test_nothing_is_kept_of_a_stream_whose_client_left(client: httpx.Client, photo: bytes) -> None:
    """A circle of references would keep its last picture until the next full collection."""
    gc.collect()
    gc.disable()
    try:
        with opened(client) as stream:
            ask(stream, photo)
        until(lambda: "fer_streams 0.0" in client.get("/metrics").text)
        assert not [one for one in gc.get_objects() if isinstance(one, StreamSession)]
        connections = [one for one in gc.get_objects() if isinstance(one, Connection)]
        assert not [one for one in connections if one.transport.is_closing()]
    finally:
        gc.enable()


def test_silence_ends_a_stream(serve: Serve) -> None:
    with serve(stream_idle_timeout_s=0.01) as client, opened(client) as stream:
        assert ending(stream) == (1000, "no frame for 0.01 s")


def test_waiting_for_an_answer_is_no_silence(gated: Gated, photo: bytes) -> None:
    with gated(stream_idle_timeout_s=0.5) as (client, gate), opened(client) as stream:
        stream.send(photo)
        assert gate.entered.wait(30)
        with opened(client) as other:
            assert ending(other)[0] == 1000
        gate.open.set()
        assert json.loads(stream.recv(30))["status"] == "ok"


def test_a_frame_has_the_deadline_of_a_request(loaded: Loaded, photo: bytes) -> None:
    """Without a server, which would not wait longer than that for the handshake."""
    app = create_app(Settings(_env_file=None, request_timeout_s=1e-9), loaded)
    coming: list[Message] = [{"type": "websocket.receive", "bytes": photo}, {"type": "websocket.connect"}]

    async def scenario() -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def receive() -> Message:
            if not coming:
                await answer
                return {"type": "websocket.disconnect", "code": 1000}
            return coming.pop()

        async def send(message: Message) -> None:
            if message["type"] == "websocket.send":
                answer.set_result(json.loads(message["text"]))

        scope = {"type": "websocket", "scheme": "ws", "path": "/stream"}
        handshake = {"query_string": b"", "headers": [], "subprotocols": []}
        async with lifespan(app), asyncio.timeout(30):
            await app(scope | handshake, receive, send)
        return answer.result()

    assert asyncio.run(scenario())["error"]["code"] == "deadline_exceeded"


def test_a_stream_ends_when_it_is_to_end_however_long_it_may_be_silent(loaded: Loaded, photo: bytes) -> None:
    config = server_config(Settings(_env_file=None, port=0, stream_idle_timeout_s=3600), loaded)
    with running(config) as client, opened(client) as stream:
        assert ask(stream, photo)["status"] == "ok"
        config.app.state.runtime.streams.close()  # type: ignore[union-attr]
        with pytest.raises(ConnectionClosed, match="1001"):
            stream.recv(30)


def test_draining_answers_the_frame_in_work_and_says_goodbye(gated: Gated, photo: bytes) -> None:
    goodbye = (1001, "not_ready: the service is shutting down")
    with ThreadPoolExecutor() as pool, ExitStack() as streams:
        with gated() as (client, gate):
            busy, idle = streams.enter_context(opened(client)), streams.enter_context(opened(client))
            busy.send(photo)
            assert gate.entered.wait(30)
            # Leaving the block stops the server, which then waits; the idle stream tells when it has begun.
            told = pool.submit(ending, idle)
            told.add_done_callback(lambda _: gate.open.set())
        assert told.result() == goodbye
        assert json.loads(busy.recv(30))["status"] == "ok"
        assert ending(busy) == goodbye


def test_an_unforeseen_failure_of_a_frame_is_told_and_the_stream_goes_on(
    loaded: Loaded, photo: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    store, pipeline = loaded
    graphs = [Broken() for _ in DETECTOR_GRAPHS]
    broken = EmotionPipeline(Mtcnn(*graphs), pipeline.classifiers, pipeline.default)
    with serving(Settings(_env_file=None), (store, broken)) as client, opened(client) as stream:
        for number in (1, 2):
            answer = ask(stream, photo)
            assert (answer["frame"], answer["error"]["code"]) == (number, "internal_error")
            assert "secret" not in answer["error"]["detail"]
    assert "secret" in "".join(capfd.readouterr())
