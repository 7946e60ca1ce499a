"""The server that benchmarks start, and what their clients say where there is nothing to tell."""

import asyncio
import os
import subprocess
import sys
from typing import Any

import httpx
import pytest

from benchmarks.server import Server, load, serving
from benchmarks.workloads import portrait
from tests.conftest import Serve


@pytest.mark.skipif(sys.platform != "linux", reason="memory and CPU time come from /proc")
def test_settings_of_the_caller_are_not_the_measured_ones(
    monkeypatch: pytest.MonkeyPatch, photo: bytes
) -> None:
    monkeypatch.setenv("FER_API_KEYS", "k")
    with serving(log_level="warning") as server, httpx.Client(base_url=server.url) as client:
        before = server.cpu_seconds()
        assert client.post("/detect-emotions", content=photo).status_code == 200
        assert server.cpu_seconds() > before > 0
        assert server.resident_bytes() > 50_000_000
        assert server.counter("process_open_fds") > 0
        assert server.counter("no_such_metric") == 0
        assert server.ready_s > 0


def test_a_server_that_does_not_start_is_told() -> None:
    with pytest.raises(SystemExit, match="ended with 1 before it was ready"), serving(workers="many"):
        pass


def test_too_few_answers_are_one_sentence() -> None:
    pytest.importorskip("pycurl")
    command = [sys.executable, "-m", "benchmarks.clients", "1", "1", "0"]
    run = subprocess.run(command, input="", capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == "0 answers in 0 s are too few for a percentile: ask for longer\n"
    with pytest.raises(SystemExit, match="1"):
        load(1, b"", clients=1, seconds=0)


def test_a_refusal_is_no_answer_that_is_timed(serve: Serve, photo: bytes) -> None:
    clients = pytest.importorskip("benchmarks.clients")
    with serve(api_keys="k") as refusing:
        run = clients.Clients(refusing.base_url.port or 0, photo)
        run.post(0.0)
    assert (run.failed, run.milliseconds) == (1, [])


@pytest.mark.skipif(sys.platform != "linux", reason="CPU time comes from the process's clock")
def test_what_a_refusal_takes_is_no_figure(serve: Serve) -> None:
    speed = pytest.importorskip("benchmarks.speed")
    with serve(api_keys="k") as refusing, pytest.raises(SystemExit, match="answered with 401"):
        speed.post(Server(os.getpid(), refusing.base_url.port or 0, 0), portrait(), "wall")


def test_a_rate_is_over_all_the_time_in_which_answers_came(serve: Serve, photo: bytes) -> None:
    generator = pytest.importorskip("benchmarks.load.generator")

    async def overload(url: str) -> Any:
        async with generator.client_of(url, photo) as client:
            return await client.open(rate=1000, seconds=1e-6)

    with serve() as service:
        result = asyncio.run(overload(str(service.base_url)))
    answered = result.of(200)
    assert answered
    assert result.seconds >= max(each.ended for each in answered) - min(each.sent for each in answered)
