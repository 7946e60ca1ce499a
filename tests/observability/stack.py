"""The service under a container's limits, Prometheus and Alertmanager, as configured, on loopback."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from time import monotonic, sleep, time
from typing import Any

import httpx
import yaml

from service.vision.types import EMOTIONS
from tests.observability.conftest import ROOT, UNPACKED

DOCKER = ROOT / "docker"
DAY = 86_400
STEP = 300
# Of cgroup v1, which has a tree for each, or v2.
CGROUPS = tuple(Path("/sys/fs/cgroup") / name for name in ("cpu", "memory", ""))
LIMITS = {
    "cpu.cfs_quota_us": "100000", "cpu.max": "100000",
    "memory.limit_in_bytes": "2G", "memory.max": "2G",
}  # fmt: skip
# What the history says of each minute; the emotions are all equally frequent in it.
BASELINE = {
    "job:fer_images:rate5m": 10.0,
    "job:fer_images_without_face:rate5m": 1.0,
    "job:fer_faces:rate5m": 7.0,
    "job:fer_uncertain_faces:rate5m": 2.1,
    "job:fer_emotion_entropy:rate5m": 3.5,
    "job:fer_face_size_pixels:rate5m": 840.0,
}


@dataclass(frozen=True)
class Stack:
    """Where everything answers. service: the process to be killed; received: what the webhook got."""

    api: httpx.Client
    prometheus: httpx.Client
    service: "subprocess.Popen[bytes]"
    received: "Queue[dict[str, Any]]"

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query."""
        answer = self.prometheus.post("/api/v1/query", data={"query": expression}).json()
        assert answer["status"] == "success", f"{expression}: {answer.get('error')}"
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result


@contextmanager
def running(tools: Mapping[str, str], folder: Path) -> Iterator[Stack]:
    """Start all; at the end all have stopped."""
    ports = dict(zip(("service", "prometheus", "alertmanager"), free_ports(3), strict=True))
    with ExitStack() as stack:
        received, hook = stack.enter_context(webhook())
        service = stack.enter_context(fer_service(ports["service"]))
        _write_history(tools, folder)
        (folder / "alertmanager.yml").write_text(_alertmanager(hook))
        (folder / "prometheus.yml").write_text(_prometheus(ports))
        at = "127.0.0.1:{}".format
        alertmanager = [
            *_as_installed(tools["prometheus-alertmanager"]), f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'alertmanager'}", "--cluster.listen-address=",
            f"--web.listen-address={at(ports['alertmanager'])}",
        ]  # fmt: skip
        prometheus = [
            tools["prometheus"], f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={at(ports['prometheus'])}",
        ]  # fmt: skip
        stack.enter_context(process(alertmanager, folder / "alertmanager.log"))
        stack.enter_context(process(prometheus, folder / "prometheus.log"))
        clients = {
            name: stack.enter_context(
                httpx.Client(base_url=f"http://{at(port)}", timeout=60, trust_env=False)
            )
            for name, port in ports.items()
        }
        wait_for(clients["service"], "/readyz")
        wait_for(clients["alertmanager"], "/-/ready")
        wait_for(clients["prometheus"], "/-/ready")
        yield Stack(clients["service"], clients["prometheus"], service, received)


def wait_for(client: httpx.Client, path: str, seconds: float = 90) -> None:
    """Ask until the answer is 200."""
    ends = monotonic() + seconds
    while monotonic() < ends:
        with suppress(httpx.TransportError):
            if client.get(path).status_code == 200:
                return
        sleep(0.2)
    raise AssertionError(f"{client.base_url}{path} is not ready after {seconds} s")


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]


@contextmanager
def process(command: list[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A program, until the end of the block."""
    with log.open("wb") as out:
        started = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out)
        try:
            yield started
        finally:
            started.terminate()
            started.wait(60)


@contextmanager
def fer_service(port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """The real service, small enough to be filled; in a cgroup of its own where one can be made."""
    environment = {**os.environ, "FER_QUEUE_SIZE": "2", "FER_LOG_LEVEL": "warning"}
    serve = [sys.executable, "-m", "service.cli", "serve", "--port", str(port), "--workers", "1"]
    with limits() as wrapped:
        started = subprocess.Popen([*wrapped, *serve], cwd=ROOT, env=environment)
        try:
            yield started
        finally:
            started.terminate()
            started.wait(60)


@contextmanager
def limits() -> Iterator[list[str]]:
    """What to put before a command to run it in cgroups with LIMITS that it sees as in a container."""
    name = f"fer-observability-{os.getpid()}"
    made = [root / name for root in CGROUPS if (root / "cgroup.procs").exists() and _limited(root / name)]
    join = "".join(f"echo $$ > {own}/cgroup.procs && " for own in made)
    mount = "".join(f"mount --bind {own} {own.parent} && " for own in made)
    wrapped = ["sh", "-c", f'{join}exec unshare --mount sh -c "$0" "$@"', f'{mount}exec "$0" "$@"']
    try:
        yield wrapped if made else []
    finally:
        for own in made:
            _remove(own)


def _limited(group: Path) -> bool:
    """Make it, with those of LIMITS that it has. False where this user or this kernel can't."""
    try:
        group.mkdir()
        had = [(group / name, limit) for name, limit in LIMITS.items() if (group / name).exists()]
        for file, limit in had:
            file.write_text(limit)
    except OSError:
        had = []
    if not had:
        with suppress(OSError):
            group.rmdir()
    return bool(had)


def _remove(group: Path) -> None:
    """Once the last process in it, a decoder perhaps, has noticed that the service is gone."""
    ends = monotonic() + 30
    while (group / "cgroup.procs").read_text() and monotonic() < ends:
        sleep(0.1)
    group.rmdir()


@contextmanager
def webhook() -> Iterator[tuple["Queue[dict[str, Any]]", str]]:
    """Takes what Alertmanager delivers."""
    received: Queue[dict[str, Any]] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_request(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield received, f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def _as_installed(program: str) -> list[str]:
    """The program; if it was unpacked and not installed, with its templates where it looks for them."""
    if not Path(program).is_relative_to(UNPACKED):
        return [program]
    namespace = ["unshare", "--mount"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
    script = f'mount --bind {UNPACKED / "usr" / "share"} /usr/share && exec "$0" "$@"'
    return [*namespace, "sh", "-c", script, program]


def _prometheus(ports: Mapping[str, int]) -> str:
    """The shipped file with other addresses."""
    text = (DOCKER / "prometheus" / "prometheus.yml").read_text()
    text = text.replace("fer-service:8000", f"127.0.0.1:{ports['service']}")
    text = text.replace("alertmanager:9093", f"127.0.0.1:{ports['alertmanager']}")
    return re.sub(r"- (\w+\.yml)", rf"- {DOCKER / 'prometheus'}/\1", text)


def _alertmanager(hook: str) -> str:
    """The shipped file with somebody who listens."""
    config = yaml.safe_load((DOCKER / "alertmanager" / "alertmanager.yml").read_text())
    [operators] = config["receivers"]
    operators["webhook_configs"] = [{"url": hook}]
    return yaml.safe_dump(config)


def _write_history(tools: Mapping[str, str], folder: Path) -> None:
    """Eight days of what Prometheus would have recorded, so that there is a baseline."""
    now = int(time())
    series = {f'{name}{{job="fer-service"}}': value for name, value in BASELINE.items()}
    for emotion in EMOTIONS:
        name = f'job_emotion:fer_emotions:rate5m{{job="fer-service",emotion="{emotion}"}}'
        series[name] = BASELINE["job:fer_faces:rate5m"] / len(EMOTIONS)
    moments = range(now - 8 * DAY, now - DAY + STEP, STEP)
    lines = [f"{name} {value} {moment}" for name, value in series.items() for moment in moments]
    text = folder / "history.om"
    text.write_text("\n".join([*lines, "# EOF", ""]))
    create = [tools["promtool"], "tsdb", "create-blocks-from", "openmetrics", str(text), str(folder / "data")]
    subprocess.run(create, check=True, capture_output=True)
