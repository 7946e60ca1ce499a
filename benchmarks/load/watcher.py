"""A process of its own that asks the probes in turn, ten times a second, and looks at the memory in use."""

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from multiprocessing import get_context
from multiprocessing.connection import Connection
from time import perf_counter

from benchmarks.server import Server

EVERY_S = 0.1
PATHS = ("/livez", "/metrics", "/readyz")


@dataclass(slots=True)
class Watch:
    """What was seen: seconds of each answer by its path, how many were not 200, resident bytes in turn."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {path: [] for path in PATHS})
    failures: int = 0
    resident: list[int] = field(default_factory=list)

    @property
    def slowest(self) -> float:
        """The longest that any answer took, in seconds."""
        return max(map(max, self.seconds.values()))

    @property
    def growth(self) -> float:
        """The last third's median resident size over that of the second third (the first one warms up)."""
        third = len(self.resident) // 3
        second, last = sorted(self.resident[third : 2 * third]), sorted(self.resident[-third:])
        return last[third // 2] / second[third // 2]


@contextmanager
def watching(server: Server) -> Iterator[Watch]:
    """Watch during the block; what was seen is there after it."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_watch, args=(server, theirs))
    process.start()
    assert ours.recv() == "ready"
    watch = Watch()
    try:
        yield watch
    finally:
        ours.send("stop")
        seen: Watch = ours.recv()
        process.join()
        watch.seconds, watch.failures, watch.resident = seen.seconds, seen.failures, seen.resident


def _watch(server: Server, orders: "Connection[object, str]") -> None:
    watch = Watch()
    orders.send("ready")
    paths = cycle(PATHS)
    while not orders.poll(EVERY_S):
        _ask(server.port, next(paths), watch)
        watch.resident.append(server.resident_bytes())
    orders.send(watch)


def _ask(port: int, path: str, watch: Watch) -> None:
    """Each time over a connection of its own, as a kubelet and a scraper do."""
    started = perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        watch.failures += answer.status != 200
    except OSError:
        watch.failures += 1
    finally:
        connection.close()
    watch.seconds[path].append(perf_counter() - started)
