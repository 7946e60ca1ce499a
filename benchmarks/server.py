"""The service in a process of its own, on loopback, and clients in another."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from time import perf_counter, sleep

HOST = "127.0.0.1"
START_LIMIT_S = 60


@dataclass(frozen=True, slots=True)
class Server:
    """port; process id; seconds from its start to its readiness."""

    port: int
    pid: int
    ready_s: float

    @property
    def resident_bytes(self) -> int:
        """The process's resident set (Linux)."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def cpu_s(self) -> float:
        """CPU seconds that the process's living threads have used (Linux)."""
        threads = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def is_ready(port: int) -> bool:
    connection = HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@contextmanager
def serving(**settings: object) -> Iterator[Server]:
    """Start the service with these settings, wait until it is ready, and end it."""
    port = free_port()
    wanted = {"port": port, "log_level": "warning", **settings}
    environment = os.environ | {f"FER_{name.upper()}": str(value) for name, value in wanted.items()}
    started = perf_counter()
    command = [str(Path(sys.executable).with_name("fer-service")), "serve"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        while not is_ready(port):
            if process.poll() is not None or perf_counter() - started > START_LIMIT_S:
                raise SystemExit(f"the service did not start: status {process.poll()}")
            sleep(0.01)
        yield Server(port, process.pid, perf_counter() - started)
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True, slots=True)
class Load:
    """Requests answered a second; median and 99th percentile of their milliseconds; how many failed."""

    rate: float
    median_ms: float
    p99_ms: float
    failed: int


def load(port: int, image: bytes, *, clients: int, seconds: float, rate: float | None = None) -> Load:
    """Send the image from a process of its own (`benchmarks.clients`)."""
    command = [sys.executable, "-m", "benchmarks.clients", str(port), str(clients), str(seconds)]
    command += [] if rate is None else [str(rate)]
    done = subprocess.run(command, input=image, stdout=subprocess.PIPE, check=True)
    return Load(**json.loads(done.stdout))
