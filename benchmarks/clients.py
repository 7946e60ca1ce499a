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
from statistics import median, quantiles
from threading import Lock, local
from time import perf_counter, sleep

import pycurl

PATH = "/detect-emotions"
# Of which there are percentiles.
FEWEST = 2


class Client:
    """Asks the service on loopback; each thread over a connection of its own, which stays open.

    libcurl sends and reads, since what a client takes itself is told as the service's.
    """

    def __init__(self, port: int) -> None:
        self._url, self._own = f"http://127.0.0.1:{port}", local()

    def ask(self, path: str, image: bytes | None = None) -> int:
        """The status of the answer to a GET, or to a POST of a JPEG. Raises `pycurl.error`."""
        if not hasattr(self._own, "curl"):
            self._own.curl = connection()
        curl = self._own.curl
        curl.setopt(pycurl.URL, self._url + path)
        if image is None:
            curl.setopt(pycurl.HTTPGET, 1)
        else:
            curl.setopt(pycurl.POSTFIELDS, image)
        curl.perform()
        return int(curl.getinfo(pycurl.RESPONSE_CODE))


def connection() -> pycurl.Curl:
    """What sends JPEGs at once, whatever their size, and drops the answers."""
    curl = pycurl.Curl()
    curl.setopt(pycurl.HTTPHEADER, ["Content-Type: image/jpeg", "Expect:"])
    curl.setopt(pycurl.WRITEFUNCTION, lambda _: None)
    curl.setopt(pycurl.TIMEOUT, 60)
    curl.setopt(pycurl.NOSIGNAL, 1)
    curl.setopt(pycurl.PROXY, "")
    return curl


class Clients:
    """Threads that share a clock and a record: how long answers took, and how many requests had none.

    A refusal, which takes no time, is no answer.
    """

    def __init__(self, port: int, image: bytes) -> None:
        self._client, self._image, self._lock = Client(port), image, Lock()
        self.milliseconds: list[float] = []
        self.failed = 0

    def post(self, since: float) -> None:
        """One request, on this thread's connection."""
        answered = self._client.ask(PATH, self._image) == 200
        with self._lock:
            self.failed += not answered
            if answered:
                self.milliseconds.append((perf_counter() - since) * 1000)

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


def percentile_99(times: list[float]) -> float:
    """At most the largest of them, however few there are."""
    return quantiles(times, n=100, method="inclusive")[98]


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
    if len(times) < FEWEST:
        raise SystemExit(f"{len(times)} answers in {seconds} s are too few for a percentile: ask for longer")
    answer = {
        "rate": len(times) / (perf_counter() - start),
        "median_ms": median(times),
        "p99_ms": percentile_99(times),
        "failed": run.failed,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
