"""`fer-service serve` as a process of its own, and what the system knows of it."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

START_LIMIT_S = 60
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Server:
    """A running service on loopback."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def counter(self, name: str) -> float:
        """The value of a metric without labels, 0 where it is missing."""
        found = re.search(rf"^{name} (\S+)$", self.get("/metrics"), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def get(self, path: str) -> str:
        """The answer to a GET."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:  # noqa: S310
            text: str = answer.read().decode()
        return text

    def resident_bytes(self) -> int:
        """Memory of the process and its children."""
        return sum(_resident(pid) for pid in _tree(self.pid))

    def cpu_seconds(self) -> float:
        """CPU time of the process and its children."""
        return sum(_cpu(pid) for pid in _tree(self.pid))


@contextmanager
def serving(log: "IO[bytes] | int" = subprocess.DEVNULL, **settings: object) -> Iterator[Server]:
    """A server with these settings (`queue_size=400`), otherwise as a user starts it; stopped at the end."""
    port = _free_port()
    variables = {f"FER_{name.upper()}": str(value) for name, value in settings.items()}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FER_")}
    command = [str(Path(sys.executable).with_name("fer-service")), "serve", "--port", str(port)]
    with subprocess.Popen(command, env=environment | variables, stdout=log, stderr=log) as process:
        try:
            _wait_until_ready(process, port)
            yield Server(process.pid, port)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _wait_until_ready(process: "subprocess.Popen[bytes]", port: int) -> None:
    limit = time.monotonic() + START_LIMIT_S
    while time.monotonic() < limit:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode} before it was ready")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"the server was not ready within {START_LIMIT_S} s")


def _tree(pid: int) -> list[int]:
    children = _read(pid, f"task/{pid}/children").split()
    return [pid, *(found for child in children for found in _tree(int(child)))]


def _resident(pid: int) -> int:
    pages = _read(pid, "statm").split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if pages else 0


def _cpu(pid: int) -> float:
    # The name, in parentheses, may hold spaces.
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND if fields else 0.0


def _read(pid: int, name: str) -> str:
    """Empty where the process has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
