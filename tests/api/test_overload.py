"""A full queue, a client that hangs up, and a service that drains."""

import asyncio
import io
import json
import re
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from starlette.types import Message

from service.api.intake import Intake
from service.lifespan import lifespan
from service.main import create_app
from service.runtime.model_store import ModelStore
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.vision.headers import ACCEPTED_FORMATS
from service.vision.mtcnn import Mtcnn
from service.vision.pipeline import EmotionPipeline
from tests.api.test_errors import assert_problem
from tests.conftest import Gate, Gated, Serve, serving, until


@pytest.fixture(scope="module")
def slow_image() -> bytes:
    """Noise: looking for faces in it takes longer than sending it."""
    return noise(1000)


def noise(side: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)).save(file, "BMP")
    return file.getvalue()


def test_more_than_the_queue_holds_gets_503_and_the_rest_is_served(serve: Serve, slow_image: bytes) -> None:
    with serve(workers=1, queue_size=1) as client, ThreadPoolExecutor(12) as pool:
        post = lambda _: client.post("/detect-emotions", content=slow_image)  # noqa: E731
        responses = list(pool.map(post, range(12)))
    refused = [response for response in responses if response.status_code == 503]
    assert len([response for response in responses if response.status_code == 200]) >= 2
    assert len(refused) == 12 - len([r for r in responses if r.status_code == 200]) > 0
    for response in refused:
        assert response.json()["code"] == "overloaded"
        assert int(response.headers["retry-after"]) >= 1


def test_a_client_that_hangs_up_is_recorded_and_hurts_nobody(serve: Serve, slow_image: bytes) -> None:
    with serve(workers=1) as client:
        host, port = client.base_url.host, client.base_url.port
        assert port
        with socket.create_connection((host, port)) as connection:
            head = f"POST /detect-emotions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(slow_image)}\r\n\r\n"
            connection.sendall(head.encode() + slow_image)
        assert client.post("/detect-emotions", content=slow_image).status_code == 200
        until(lambda: answers(client) == {"200": 1, "499": 1})
        until(lambda: "fer_inflight_requests 0.0" in client.get("/metrics").text)


def answers(client: httpx.Client) -> dict[str, float]:
    """How many requests to /detect-emotions ended with each status so far."""
    counts = r'seconds_count{.*status_code="(\d+)",http_route="/detect-emotions"} (.*)'
    return {status: float(count) for status, count in re.findall(counts, client.get("/metrics").text)}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
@pytest.mark.parametrize("count", [1, 2])
def test_of_a_client_that_asked_and_hung_up_no_request_begins(
    serve: Serve, photo: bytes, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(workers=1) as client:
        with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as connection:
            # Nothing leaves before the end of the connection does.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            connection.sendall(
                count * b"POST /detect-emotions HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\njunk"
            )
        assert client.post("/detect-emotions", content=photo).status_code == 200
        until(lambda: answers(client) == {"200": 1, "499": 1})
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_one_who_asked_again_and_left_is_missed(serve: Serve, photo: bytes) -> None:
    slow_image = noise(2400)  # looked through for several times as long as a connection goes unwatched
    with serve(workers=1) as client:
        with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as connection:
            head = b"POST /detect-emotions?min_face_size=12 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
            connection.sendall(head % len(slow_image) + slow_image)
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.post("/detect-emotions", content=photo).status_code == 200
        until(lambda: answers(client) == {"200": 1, "499": 1})


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_one_who_sent_no_http_after_a_photo_and_left_is_missed(gated: Gated, photo: bytes) -> None:
    with gated(workers=1) as (client, gate):
        with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as connection:
            head = b"POST /detect-emotions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
            connection.sendall(head % len(photo) + photo)
            assert gate.entered.wait(30)
            connection.sendall(b"no HTTP\r\n\r\n")
        until(lambda: answers(client) == {"499": 1})


def test_nothing_is_computed_for_a_client_that_has_hung_up_by_then(
    loaded: tuple[ModelStore, EmotionPipeline], photo: bytes
) -> None:
    app = create_app(Settings(_env_file=None), loaded)
    sent: list[Message] = []

    async def scenario() -> float | None:
        asked, loop = asyncio.Event(), asyncio.get_running_loop()
        arriving: list[Message] = [{"type": "http.request", "body": photo}]

        def connected() -> bool:
            loop.call_soon_threadsafe(asked.set)
            return False

        async def receive() -> Message:
            if arriving:
                return arriving.pop()
            await asked.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "scheme": "http", "method": "POST", "path": "/detect-emotions"}
        async with lifespan(app):
            request = {"query_string": b"", "headers": [], "state": {"connected": connected}}
            await app(scope | request, receive, send)
        metrics: Metrics = app.state.metrics
        return metrics.registry.get_sample_value("fer_dropped_calls_total")

    assert asyncio.run(scenario()) == 1
    assert not sent


@pytest.mark.parametrize("before", [True, False])
def test_what_would_not_be_answered_in_time_is_refused_as_soon_as_that_is_known(
    loaded: tuple[ModelStore, EmotionPipeline], photo: bytes, before: bool
) -> None:
    """Before its body is read, or when it was."""
    app = create_app(Settings(_env_file=None, workers=1), loaded)

    async def scenario() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with lifespan(app), httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            engine = app.state.runtime.engine
            engine.drain_rate.ended(0, 1000, more_wait=False)
            with ExitStack() as others:

                async def body() -> AsyncIterator[bytes]:
                    assert not before
                    others.enter_context(engine.admit())
                    yield photo

                if before:
                    others.enter_context(engine.admit())
                return await client.post("/detect-emotions", content=body())

    assert_problem(asyncio.run(scenario()), 503, "overloaded")


def test_a_body_that_is_worked_on_makes_no_room_for_others(
    loaded: tuple[ModelStore, EmotionPipeline], photo: bytes
) -> None:
    app = create_app(Settings(_env_file=None, workers=1), loaded)
    evicted: list[str] = []

    async def scenario() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with lifespan(app), httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            app.state.runtime.intake = intake = Intake(len(photo))
            asking = asyncio.ensure_future(client.post("/detect-emotions", content=photo))
            while not (app.state.runtime.engine.inflight or asking.done()):
                await asyncio.sleep(0)
            with intake.upload() as other:
                other.evict = lambda: evicted.append("other")
                other.grow(1)
            return await asking

    assert asyncio.run(scenario()).status_code == 200
    assert evicted == ["other"]


class Noted(Gate):
    """Notes how wide each picture is that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.widths: list[int] = []

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        found = super().run(inputs)
        self.widths.append(inputs["image"].shape[2])
        return found


def test_a_single_image_goes_before_the_rest_of_a_batch(loaded: tuple[ModelStore, EmotionPipeline]) -> None:
    gate, (store, pipeline) = Noted(), loaded
    noting = EmotionPipeline(Mtcnn(gate, gate, gate, gate), pipeline.classifiers, pipeline.default)
    settings = Settings(_env_file=None, workers=1)
    with serving(settings, (store, noting)) as client, ThreadPoolExecutor(2) as pool:
        try:
            files = [("images", noise(50))] * 3
            batch = pool.submit(client.post, "/detect-emotions/batch", files=files)
            assert gate.entered.wait(30)
            single = pool.submit(client.post, "/detect-emotions", content=noise(45))
            until(lambda: "fer_queue_depth 3.0" in client.get("/metrics").text)
            assert "fer_inflight_requests 2.0" in client.get("/metrics").text
        finally:
            gate.open.set()
        assert batch.result().status_code == single.result().status_code == 200
    assert len(set(gate.widths)) == 2
    assert gate.widths[-1] == gate.widths[0]


def test_slow_bodies_do_not_stop_others(serve: Serve, photo: bytes) -> None:
    with serve(workers=1, queue_size=0) as client:
        host, port = client.base_url.host, client.base_url.port
        assert port
        stalled = [socket.create_connection((host, port)) for _ in range(20)]
        for connection in stalled:
            connection.sendall(b"POST /detect-emotions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
        assert client.post("/detect-emotions", content=photo).status_code == 200
        for connection in stalled:
            connection.close()


def test_the_answer_to_junk_names_the_accepted_formats(client: httpx.Client) -> None:
    detail = json.loads(client.post("/detect-emotions", content=b"junk").text)["detail"]
    assert all(name in detail for name in ACCEPTED_FORMATS)
