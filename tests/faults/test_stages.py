"""A stage that fails costs the image that it failed on: 500 for one, the others as ever."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from tests.api.test_errors import assert_problem
from tests.api.test_stream import ask
from tests.faults import broken
from tests.faults.conftest import Service, running, wait_until

URL = "/detect-emotions"


@pytest.fixture(params=broken.STAGES)
def stage(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def service(tmp_path: Path, stage: str) -> Iterator[Service]:
    with running(tmp_path, (sys.executable, broken.__file__, stage)) as service:
        yield service


def arm(service: Service) -> None:
    before = len(service.events("armed"))
    service.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: len(service.events("armed")) > before)


def assert_told(service: Service, response: httpx.Response) -> None:
    """The client learns nothing but the request id, under which the log has the whole of it."""
    assert_problem(response, 500, "internal_error")
    (error,) = service.events("internal error")
    assert error["request_id"] == response.json()["request_id"]
    assert error["exception"].startswith("Traceback")
    assert "secret" not in response.text
    assert "Traceback" not in response.text


def test_the_failed_image_is_told_and_no_other_is_lost(service: Service, stage: str, photo: bytes) -> None:
    path, headers = (URL, {"accept": "image/png"}) if stage == "draw" else (URL, {})
    with service.client() as client:
        expected = client.post(URL, content=photo).json()["faces"]
        arm(service)
        assert_told(service, client.post(path, content=photo, headers=headers))
        assert client.post(path, content=photo, headers=headers).status_code == 200
        if stage != "draw":
            in_a_batch(service, client, photo)
            in_a_stream(service, photo)
            arm(service)
            form = {"img": photo}
            assert_problem(client.post("/analyze", files=form), 500, "internal_error")
            assert client.post("/analyze", files=form).status_code == 200
        assert client.post(URL, content=photo).json()["faces"] == expected
        assert client.get("/readyz").status_code == 200
    assert service.metric('fer_rejected_total{code="internal_error"}') == (1 if stage == "draw" else 4)
    assert service.metric("fer_inflight_requests") == 0
    service.terminate()
    assert service.ended() == 0


def in_a_batch(service: Service, client: httpx.Client, photo: bytes) -> None:
    arm(service)
    results = client.post(f"{URL}/batch", files=[("images", photo)] * 3).json()["results"]
    failed = [result["error"]["code"] for result in results if result["status"] == "error"]
    assert failed == ["internal_error"]
    assert len(results) == 3


def in_a_stream(service: Service, photo: bytes) -> None:
    with connect(f"ws://127.0.0.1:{service.port}/stream", proxy=None, compression=None) as stream:
        arm(service)
        assert ask(stream, photo)["error"]["code"] == "internal_error"
        assert ask(stream, photo)["status"] == "ok"
