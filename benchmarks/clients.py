"""Clients that post one image over and over.

    python -m benchmarks.clients PORT CLIENTS SECONDS [RATE] < image

Without RATE each client sends its next request when the last is answered (a closed loop). With RATE requests
arrive at random moments, so many a second on average, whether or not others are answered (an open loop); then
the milliseconds count from the moment of arrival, and CLIENTS is how many may be under way.
"""

import json
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from statistics import median, quantiles
from threading import Lock, local
from time import perf_counter, sleep

PATH = "/detect-emotions"
HEADERS = {"Content-Type": "image/jpeg"}


class Clients:
    """Threads that share a clock and a record."""

    def __init__(self, port: int, image: bytes) -> None:
        self._port, self._image = port, image
        self._own, self._lock = local(), Lock()
        self.milliseconds: list[float] = []
        self.failed = 0

    def post(self, since: float) -> None:
        """One request, on this thread's connection."""
        if not hasattr(self._own, "connection"):
            self._own.connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        self._own.connection.request("POST", PATH, self._image, HEADERS)
        answer = self._own.connection.getresponse()
        answer.read()
        with self._lock:
            self.milliseconds.append((perf_counter() - since) * 1000)
            self.failed += answer.status != 200

    def closed(self, clients: int, end: float) -> None:
        """Each client asks again when it was answered."""

        def client() -> None:
            while (now := perf_counter()) < end:
                self.post(now)

        with ThreadPoolExecutor(clients) as pool:
            for future in [pool.submit(client) for _ in range(clients)]:
                future.result()

    def open(self, clients: int, start: float, end: float, rate: float) -> None:
        """Requests come when they come."""
        with ThreadPoolExecutor(clients) as pool:
            futures = []
            for moment in arrivals(start, end, rate):
                sleep(max(0.0, moment - perf_counter()))
                futures.append(pool.submit(self.post, moment))
            for future in futures:
                future.result()


def arrivals(start: float, end: float, rate: float) -> Iterator[float]:
    """Moments of a Poisson process, the same ones each time."""
    gaps = random.Random(0)  # noqa: S311
    moment = start
    while (moment := moment + gaps.expovariate(rate)) < end:
        yield moment


def main() -> None:
    port, clients, seconds, *rate = sys.argv[1:]
    run = Clients(int(port), sys.stdin.buffer.read())
    start = perf_counter()
    end = start + float(seconds)
    if rate:
        run.open(int(clients), start, end, float(rate[0]))
    else:
        run.closed(int(clients), end)
    times = run.milliseconds
    answer = {
        "rate": len(times) / (perf_counter() - start),
        "median_ms": median(times),
        "p99_ms": quantiles(times, n=100)[98],
        "failed": run.failed,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
