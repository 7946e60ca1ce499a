"""SIGTERM, SIGKILL and what is under way meanwhile."""

import json
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.api.test_stream import ending
from tests.faults.conftest import Service, Start, running, wait_until

GOODBYE = (1001, "not_ready: the service is shutting down")
SLOW = "/detect-emotions?min_face_size=20"
READY_WITHIN_S = 2


def post(service: Service, image: bytes, path: str = "/detect-emotions") -> httpx.Response:
    with service.client() as client:
        return client.post(path, content=image)


def at_work(service: Service, pool: ThreadPoolExecutor, image: bytes) -> "Future[httpx.Response]":
    """A request that a worker is busy with."""
    answer = pool.submit(post, service, image, SLOW)
    wait_until(lambda: service.metric("fer_inflight_requests") == 1)
    return answer


def stopped_accepting(service: Service) -> bool:
    """Whether connections are refused; until then /readyz must say no."""
    try:
        status = httpx.get(f"{service.url}/readyz", trust_env=False).status_code
    except httpx.TransportError:
        with suppress(ConnectionRefusedError), service.connect():
            return False
        return True
    assert status == 503
    return False


def begun(service: Service, image: bytes) -> socket.socket:
    """A request of which half has been sent, and read."""
    connection = service.connect()
    head = f"POST /detect-emotions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(image)}\r\n\r\n".encode()
    connection.sendall(head + image[: len(image) // 2])
    assert service.ready()
    return connection


def opened(service: Service) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{service.port}/stream?min_face_size=20", proxy=None, compression=None)


def test_sigterm_lets_requests_finish_whose_work_or_upload_has_begun(
    start: Start, slow_image: bytes, photo: bytes
) -> None:
    with start(shutdown_grace_s=60) as service, ThreadPoolExecutor() as pool:
        working = at_work(service, pool, slow_image)
        with begun(service, photo) as uploading:
            service.terminate()
            wait_until(lambda: stopped_accepting(service))
            assert service.process.poll() is None
            uploading.sendall(photo[len(photo) // 2 :])
            assert uploading.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
        assert working.result().status_code == 200
        assert service.ended() == 0
        assert [event["all_requests_finished"] for event in service.events("stopped")] == [True]
        assert "Traceback" not in service.log()


def test_sigterm_ends_streams_with_1001_after_the_frame_in_work(start: Start, slow_image: bytes) -> None:
    with start(shutdown_grace_s=60) as service:
        with opened(service) as busy, opened(service) as idle:
            busy.send(slow_image)
            wait_until(lambda: service.metric("fer_inflight_requests") == 1)
            service.terminate()
            assert ending(idle) == GOODBYE
            assert json.loads(busy.recv(60))["status"] == "ok"
            assert ending(busy) == GOODBYE
        assert service.ended() == 0
        assert [event["code"] for event in service.events("stream")] == [1001, 1001]


def test_an_idle_service_stops_at_once_although_clients_keep_their_connections(start: Start) -> None:
    with start(shutdown_grace_s=60) as service, service.client() as client:
        assert client.get("/readyz").status_code == 200
        service.terminate()
        began = time.monotonic()
        assert service.ended() == 0
        assert time.monotonic() - began < 30  # the grace is for requests


def test_what_outlives_the_grace_is_told_503_and_the_exit_code_tells(start: Start, slow_image: bytes) -> None:
    with start(shutdown_grace_s=0.1) as service, ThreadPoolExecutor() as pool:
        working = at_work(service, pool, slow_image)
        service.terminate()
        answer = working.result()
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        assert service.ended() == 1
        assert [event["all_requests_finished"] for event in service.events("stopped")] == [False]
        assert "Traceback" not in service.log()


def test_a_second_sigterm_ends_at_once(start: Start, slow_image: bytes) -> None:
    with start(shutdown_grace_s=60) as service, ThreadPoolExecutor() as pool:
        working = at_work(service, pool, slow_image)
        service.terminate()
        wait_until(lambda: stopped_accepting(service))
        service.terminate()
        assert service.ended() == 128 + 15
        with pytest.raises(httpx.TransportError):
            working.result()


def test_sigkill_costs_the_open_connections_and_a_restart_is_ready_in_time(
    tmp_path: Path, slow_image: bytes, photo: bytes
) -> None:
    with running(tmp_path) as service, ThreadPoolExecutor() as pool:
        working = at_work(service, pool, slow_image)
        service.process.kill()
        with pytest.raises(httpx.TransportError):
            working.result()
        assert service.ended() == -9
    began = time.monotonic()
    with running(tmp_path) as service:
        print(f"ready after {time.monotonic() - began:.2f} s")  # noqa: T201 - for the documentation
        # On a machine with nothing else to do that is all it takes; on others the clock measures those.
        assert service.cpu_seconds() < READY_WITHIN_S
        assert post(service, photo).json()["faces"]
