"""The service as its users start it: a process of its own, which a test may starve, strike or kill."""

import io
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
import numpy as np
import pytest
from PIL import Image

from service.runtime.model_store import CHECKOUT_STORE

COMMAND = (str(Path(sys.executable).parent / "fer-service"), "serve")
PATIENCE_S = 180


def wait_until(condition: Callable[[], object]) -> None:
    """Ask again and again until it holds."""
    ends = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends, "it did not come true"
        time.sleep(0.01)


@dataclass
class Service:
    """A process that serves, or is about to."""

    process: "subprocess.Popen[bytes]"
    port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=PATIENCE_S, trust_env=False)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log()
        try:
            return httpx.get(f"{self.url}/readyz", timeout=PATIENCE_S, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def metric(self, name: str) -> float:
        lines = httpx.get(f"{self.url}/metrics", timeout=PATIENCE_S, trust_env=False).text.splitlines()
        return next(float(line.split(" ")[1]) for line in lines if line.startswith(f"{name} "))

    def cpu_seconds(self) -> float:
        """What its threads have computed so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def children(self) -> list[int]:
        """Its decoder processes."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]

    def log(self) -> str:
        return (self.folder / "stderr").read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        """What the log says under this name."""
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def limit(self, kind: int, most: int) -> None:
        """Give the process no more of a resource, as `setrlimit` does."""
        resource.prlimit(self.process.pid, kind, (most, most))

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        """The exit code, once there is one."""
        return self.process.wait(PATIENCE_S)


Start = Callable[..., AbstractContextManager[Service]]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running(
    folder: Path,
    command: Sequence[str] = COMMAND,
    *,
    stderr: "IO[bytes] | int | None" = None,
    **settings: object,
) -> Iterator[Service]:
    """A ready service, killed at the end if it still runs.

    folder: where it starts and, unless `stderr` is given, logs.
    """
    port = free_port()
    # A busy machine must not look like a fault.
    patient = {"request_timeout_s": 2 * PATIENCE_S, **settings}
    variables = {f"FER_{name.upper()}": str(value) for name, value in patient.items()}
    environment = {"PATH": "/usr/bin:/bin", "FER_PORT": str(port), "FER_LOG_FORMAT": "json", **variables}

    with (folder / "stderr").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stderr or log, stderr=stderr or log, cwd=folder,
            env=environment,
        )  # fmt: skip
    service = Service(process, port, folder)
    try:
        wait_until(service.ready)
        yield service
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start a service: `with start(workers=1) as service`."""
    return lambda *args, **options: running(tmp_path, *args, **options)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A copy of the model store, to be spoilt."""
    return Path(shutil.copytree(CHECKOUT_STORE, tmp_path / "store"))


@pytest.fixture(scope="session")
def slow_image(tmp_path_factory: pytest.TempPathFactory, photo: bytes) -> bytes:
    """A face 900 times, at which detector and classifier work for seconds."""
    path = tmp_path_factory.mktemp("slow") / "faces.bmp"
    face = Image.open(io.BytesIO(photo)).convert("RGB").crop((140, 30, 305, 195)).resize((60, 60))
    Image.fromarray(np.tile(np.asarray(face), (30, 30, 1))).save(path)
    return path.read_bytes()
