"""The server that benchmarks start, what clients tell, and what this project and its peers are given."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from benchmarks.detection import inside
from benchmarks.peers.client import KINDS, Peer, UnavailableError
from benchmarks.results import Results, Row, targets
from benchmarks.server import Load, Server, load, serving
from benchmarks.workloads import Workload, portrait
from service.runtime.model_store import load_pipeline
from service.vision.types import DecodedImage
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


def test_a_percentile_of_few_answers_is_no_more_than_the_slowest() -> None:
    clients = pytest.importorskip("benchmarks.clients")
    assert 1.9 < clients.percentile_99([1.0, 2.0]) <= 2.0


def test_a_tail_of_what_was_answered_is_no_promise_kept_where_requests_failed() -> None:
    row = Row("W1", 1, in_process_ms=9, one_thread_ms=9, bare_ms=8, http_ms=9)
    met = []
    for failed in (0, 1):
        paced = Load(rate=80, median_ms=20, p99_ms=40, failed=failed)
        results = Results({}, [row], [], {}, two_workers=2, ready_s=1, closed={}, paced=paced)
        met += [target.met for target in targets(results) if "p99" in target.promise]
    assert met == [True, False]


def test_a_peers_boxes_end_where_the_image_does() -> None:
    rows = [[-5.0, 0.0, 20.0, 30.0, 0.9], [90.0, 80.0, 20.0, 10.0, 0.8], [101.0, 0.0, 9.0, 9.0, 0.7]]
    assert inside(rows, 100, 85) == [[0, 0, 15, 30, 0.9], [90, 80, 10, 5, 0.8]]


def test_this_project_and_its_peers_see_the_same_pixels(tmp_path: Path) -> None:
    speed = pytest.importorskip("benchmarks.speed")
    shape = (1600, 2400, 3)
    seen = []

    class Program:
        """A store, its pipeline, and a peer."""

        def pipeline(self) -> "Program":
            return self

        def decode(self, *arguments: Any) -> Any:
            return load_pipeline().decode(*arguments)

        def detect(self, image: DecodedImage, _: Any) -> list[Any]:
            seen.append(image.pixels.shape)
            return []

        def analyze_decoded(self, image: DecodedImage, _: Any) -> Any:
            seen.append(image.pixels.shape)
            return SimpleNamespace(faces=[])

        def ask(self, path: Path, *_: Any) -> tuple[float, int]:
            seen.append(np.load(path).shape)
            return 1.0, 0

    data = cv2.imencode(".jpg", np.zeros(shape, np.uint8))[1].tobytes()
    peers, photos = {KINDS[0]: Program()}, [Workload("large", data, 400)]
    speed.beside_peers(Program(), photos, peers, tmp_path, rounds=1, clock="cpu", threads=1)
    assert set(seen) == {shape}


def test_a_limit_of_threads_holds_for_this_project_too() -> None:
    speed = pytest.importorskip("benchmarks.speed")
    alone = object()
    assert speed.helped(alone, 1) is alone


def test_what_a_peer_cannot_do_is_told() -> None:
    command = [sys.executable, "-m", "benchmarks.peers.serve", "yunet"]
    environment = os.environ | {"YUNET": "/nowhere/yunet.onnx"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(run.stdout)["error"].startswith("it failed: ")


@pytest.mark.skipif(sys.platform != "linux", reason="the peer is a script of a shell")
def test_a_peer_that_has_ended_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / KINDS[0].environment / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho '{\"ready\": true}'\n")
    python.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    with Peer(KINDS[0], Path(), None) as peer:
        for _ in range(2):
            with pytest.raises(UnavailableError, match="ended"):
                peer.ask(Path("image.npy"), 40, "wall")
