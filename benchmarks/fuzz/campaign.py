"""Cases sent to a server, every answer judged, and what the server was like meanwhile."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Event, Lock, Thread

import httpx

from benchmarks.fuzz.bodies import Case, case
from benchmarks.server import Server
from service.api.errors import ALL_KINDS

CLIENTS = 4
STATUSES = {kind.code: kind.status for kind in ALL_KINDS}
PICTURES = ("image/jpeg", "image/png")


@dataclass(slots=True)
class Tally:
    """What came back, by status and code, and what should not have."""

    answers: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    slowest: int = -1
    lock: Lock = field(default_factory=Lock)

    def add(self, number: int, answer: str, fault: str | None, seconds: float) -> None:
        """Count one answer, from any thread."""
        with self.lock:
            self.answers[answer] += 1
            if seconds > self.slowest_s:
                self.slowest_s, self.slowest = seconds, number
            if fault:
                self.faults.append(f"case {number}: {fault}")


@dataclass(slots=True)
class Memory:
    """Resident bytes of the server's processes: at its peak, and as it was early and late."""

    peak: int = 0
    samples: list[int] = field(default_factory=list)

    def growth(self) -> int:
        """From the lowest of the second quarter of the time to the lowest of the last."""
        quarter = max(1, len(self.samples) // 4)
        return min(self.samples[-quarter:]) - min(self.samples[quarter : 2 * quarter] or self.samples)


def send_cases(
    server: Server, pictures: Mapping[str, Sequence[bytes]], first: int, seconds: float, folder: Path
) -> tuple[Tally, Memory]:
    """Send cases from this number on, as fast as they are answered. folder: where faulty bodies are kept."""
    tally, memory, ended = Tally(), Memory(), Event()
    numbers, ends = count(first), time.monotonic() + seconds

    def client() -> None:
        with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as connection:
            for number in _until(numbers, ends):
                _send(connection, number, case(number, pictures), tally, folder)

    watcher = Thread(target=_watch, args=(server, memory, ended))
    watcher.start()
    try:
        with ThreadPoolExecutor(CLIENTS) as clients:
            for done in [clients.submit(client) for _ in range(CLIENTS)]:
                done.result()
    finally:
        ended.set()
        watcher.join()
    return tally, memory


def _until(numbers: Iterator[int], ends: float) -> Iterator[int]:
    while time.monotonic() < ends:
        yield next(numbers)


def _watch(server: Server, memory: Memory, ended: Event) -> None:
    while not ended.wait(0.05):
        now = server.resident_bytes()
        memory.samples.append(now)
        memory.peak = max(memory.peak, now)


def _send(connection: httpx.Client, number: int, sent: Case, tally: Tally, folder: Path) -> None:
    started = time.monotonic()
    try:
        response = connection.post(sent.path, content=sent.body, headers=dict(sent.headers))
        answer, fault = _judge(response)
    except httpx.TransportError as error:
        answer, fault = "no answer", repr(error)
    tally.add(number, answer, fault, time.monotonic() - started)
    if fault:
        (folder / f"case-{number}").write_bytes(sent.body)


def _judge(response: httpx.Response) -> tuple[str, str | None]:
    """A name for the answer, and what is wrong with it."""
    kind = response.headers.get("content-type", "")
    if response.status_code == 200:
        return "200", None if kind in (*PICTURES, "application/json") else f"200 with {kind!r}"
    if kind != "application/problem+json":
        if response.status_code == 400 and response.request.url.path == "/analyze":
            return "400 of deepface's form", None
        return f"{response.status_code}", f"{response.status_code} with {kind!r}"
    problem = response.json()
    answer = f"{response.status_code} {problem['code']}"
    known = STATUSES.get(problem["code"]) == response.status_code
    return answer, None if known and response.status_code < 500 else answer
