"""The service in a process of its own, on loopback, and clients in another."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from time import clock_gettime, perf_counter, sleep
from typing import IO

HOST = "127.0.0.1"
START_LIMIT_S = 60
Log = IO[bytes] | int | None


@dataclass(frozen=True, slots=True)
class Server:
    """A running service. pid: of its process; ready_s: seconds from its start to its readiness."""

    pid: int
    port: int
    ready_s: float

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    def counter(self, name: str) -> float:
        """The value of a metric without labels, 0 where it is missing."""
        status, metrics = _get(self.port, "/metrics", 30)
        if status != 200:
            raise RuntimeError(f"/metrics was answered with {status}")
        found = re.search(rf"^{name} (\S+)$", metrics, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def resident_bytes(self) -> int:
        """Memory of the process and its children, which decode pictures (Linux)."""
        return sum(_resident(pid) for pid in _tree(self.pid))

    def cpu_seconds(self) -> float:
        """CPU time of the process and its children, of threads that have ended too (Linux)."""
        return sum(_cpu(pid) for pid in _tree(self.pid))


@contextmanager
def serving(log: Log = subprocess.DEVNULL, **settings: object) -> Iterator[Server]:
    """Start the service with these settings (`queue_size=400`), wait until it is ready, and end it.

    Otherwise it is as a user starts it: settings in this process's environment are not passed on. log: takes
    what it writes; None for this process's own output. Raises SystemExit where it does not become ready.
    """
    port, started = free_port(), perf_counter()
    with subprocess.Popen(_command(port), env=_environment(settings), stdout=log, stderr=log) as process:
        try:
            _wait_until_ready(process, port, started + START_LIMIT_S)
            yield Server(process.pid, port, perf_counter() - started)
        finally:
            process.terminate()


def free_port() -> int:
    """A port that nobody listened on just now."""
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _command(port: int) -> list[str]:
    return [str(Path(sys.executable).with_name("fer-service")), "serve", "--port", str(port)]


def _environment(settings: dict[str, object]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FER_")}
    return inherited | {f"FER_{name.upper()}": str(value) for name, value in settings.items()}


def _wait_until_ready(process: "subprocess.Popen[bytes]", port: int, give_up: float) -> None:
    while not _is_ready(port):
        if process.poll() is not None:
            raise SystemExit(f"the service ended with {process.returncode} before it was ready")
        if perf_counter() > give_up:
            raise SystemExit(f"the service was not ready within {START_LIMIT_S} s")
        sleep(0.01)


def _is_ready(port: int) -> bool:
    try:
        return _get(port, "/readyz", 5)[0] == 200
    except OSError:
        return False


def _get(port: int, path: str, timeout: float) -> tuple[int, str]:
    """The status and text of an answer."""
    connection = HTTPConnection(HOST, port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def _tree(pid: int) -> list[int]:
    """The process and its children, whichever of its threads started them."""
    children = [child for thread in _threads(pid) for child in _read(pid, f"task/{thread}/children").split()]
    return [pid, *(found for child in children for found in _tree(int(child)))]


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return []


def _resident(pid: int) -> int:
    pages = _read(pid, "statm").split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if pages else 0


def _cpu(pid: int) -> float:
    """0 where the process has ended."""
    try:
        # The clock that clock_getcpuclockid(3) names; /proc counts in ticks, too coarse for one request.
        return clock_gettime(~pid << 3 | 2)
    except OSError:
        return 0.0


def _read(pid: int, name: str) -> str:
    """Empty where the process has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@dataclass(frozen=True, slots=True)
class Load:
    """Requests answered a second; median and 99th percentile of their milliseconds; how many failed."""

    rate: float
    median_ms: float
    p99_ms: float
    failed: int


def load(port: int, image: bytes, *, clients: int, seconds: float, rate: float | None = None) -> Load:
    """Send the image from a process of its own (`benchmarks.clients`), which has told why where it fails."""
    command = [sys.executable, "-m", "benchmarks.clients", str(port), str(clients), str(seconds)]
    command += [] if rate is None else [str(rate)]
    done = subprocess.run(command, input=image, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    return Load(**json.loads(done.stdout))
