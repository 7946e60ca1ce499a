"""Ray nodes as processes of this machine: each has an address of its own, and can be killed as a whole."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

HEAD = "127.0.0.2"
PORT = 6380
ADDRESS = f"{HEAD}:{PORT}"
DASHBOARD = f"http://{HEAD}:8265"
BIN = Path(sys.executable).parent
OBJECT_STORE_BYTES = 200_000_000
# A loaded machine takes minutes for what takes seconds.
PATIENCE = {
    # By default workers give way to everything else on the machine.
    "RAY_worker_niceness": "0",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "service.rayserve.proxy:middlewares",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
}
_STARTED = "kept\n"


class Cluster:
    """A head node and a worker node. dashboard: `serve deploy` talks to it; nothing else needs it."""

    def __init__(self, folder: Path, dashboard: bool) -> None:
        self._folder, self._dashboard, self._workers = folder, dashboard, 0
        self.nodes: list[Node] = []

    def start(self) -> None:
        """Start both. Raises RuntimeError where one does not start."""
        self.nodes.append(_patiently(lambda: Node.head(self._folder, 1, self._dashboard)))
        self.add_worker()

    def add_worker(self) -> None:
        """Start a worker node; an address that was killed is not used again."""
        self._workers += 1
        address = f"127.0.0.{2 + self._workers}"
        self.nodes.append(_patiently(lambda: Node.worker(address, cpus=1)))

    @property
    def worker(self) -> "Node":
        """The newest worker node."""
        return self.nodes[-1]

    def processes(self, name: str) -> list[psutil.Process]:
        """Worker processes of this name on all nodes."""
        return [process for node in self.nodes for process in node.workers(name)]

    def kill(self) -> None:
        """End all nodes."""
        for node in reversed(self.nodes):
            node.kill()

    def run(self, *command: object, **options: Any) -> subprocess.Popen[str]:
        """Start one of the environment's commands, such as `fer-service`."""
        program, *arguments = map(str, command)
        return subprocess.Popen(
            [BIN / program, *arguments], text=True, env={**os.environ, **PATIENCE}, **options
        )


@dataclass
class Node:
    """One node, from `start` to `kill`."""

    address: str
    process: subprocess.Popen[str]

    @classmethod
    def head(cls, folder: Path, cpus: int, dashboard: bool) -> "Node":
        where = ["--head", f"--port={PORT}", f"--temp-dir={folder}"]
        return cls._start(
            HEAD, cpus, [*where, f"--include-dashboard={dashboard}", f"--dashboard-host={HEAD}"]
        )

    @classmethod
    def worker(cls, address: str, cpus: int) -> "Node":
        return cls._start(address, cpus, [f"--address={ADDRESS}"])

    @classmethod
    def _start(cls, address: str, cpus: int, arguments: list[str]) -> "Node":
        command = [
            sys.executable, str(Path(__file__).with_name("keeper.py")),
            str(BIN / "ray"), "start", f"--node-ip-address={address}", f"--num-cpus={cpus}",
            f"--object-store-memory={OBJECT_STORE_BYTES}", "--disable-usage-stats", *arguments,
        ]  # fmt: skip
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **PATIENCE},
        )
        assert process.stdout
        told = []
        for line in process.stdout:
            told.append(line)
            if line == _STARTED:
                return cls(address, process)
        process.communicate()
        raise RuntimeError(f"the node {address} did not start:\n{''.join(told)}")

    def workers(self, name: str) -> list[psutil.Process]:
        """Its worker processes of this name, as Ray titles them (`ray::name`)."""
        return [one for one in self._all() if any(name in part for part in _command(one)[:1])]

    def kill(self) -> None:
        """SIGKILL to every process of the node, as a power cut would do; again is no harm."""
        family = self._all()
        for one in family:
            _kill(one)
        psutil.wait_procs(family, timeout=30)
        assert self.process.stdout
        self.process.stdout.close()
        self.process.wait()

    def _all(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def _patiently(start: Callable[[], Node], attempts: int = 3) -> Node:
    """A node that starts at last: Ray gives it 30 seconds, which a loaded machine may not keep."""
    for _ in range(attempts - 1):
        with suppress(RuntimeError):
            return start()
    return start()


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGKILL)
