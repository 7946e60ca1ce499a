"""Ray Serve beside plain uvicorn, and two replicas beside one: two Ray nodes of one CPU on this machine.

`make ray-figures` prints medians of interleaved rounds. All of it shares the cores with the clients and with
Ray's own processes, so only the ratios say something.
"""

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import httpx
from PIL import Image

from tests.conftest import PHOTO
from tests.ray.cluster import BIN, PATIENCE, Cluster
from tests.ray.serving import URL, deploy
from tests.ray.waiting import until

PLAIN = "http://127.0.0.2:8100"
ROUNDS = 5
CLIENTS = 6


def main() -> None:
    with TemporaryDirectory(prefix="fer-ray-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        cluster = Cluster(folder / "ray", dashboard=True)
        try:
            cluster.start()
            with plain():
                measure(cluster, folder)
        finally:
            cluster.kill()


@contextmanager
def plain() -> Iterator[None]:
    """The service by itself, with one worker thread, as a replica has."""
    command = [str(BIN / "fer-service"), "serve", "--host", "127.0.0.2", "--port", "8100", "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**PATIENCE, "FER_LOG_LEVEL": "error"})
    try:
        until("the plain service", lambda: answers(f"{PLAIN}/readyz"))
        yield
    finally:
        process.terminate()
        process.wait()


def measure(cluster: Cluster, folder: Path) -> None:
    """One replica beside the plain service, then two replicas beside it."""
    small = photo()
    for replicas in (1, 2):
        deploy(cluster, folder, replicas)
        cases: dict[str, Callable[[str], float]] = {
            "empty request, one after another, ms": lambda url: each_ms(url, None),
            "photo, one after another, ms": lambda url: each_ms(url, small),
            "empty requests a second": lambda url: rate(url, None, 300),
            "photos a second": lambda url: rate(url, small, 60),
        }
        for case, run in cases.items():
            rounds = [(run(PLAIN), run(URL)) for _ in range(ROUNDS)]
            alone, ray = (median(one) for one in zip(*rounds, strict=True))
            figures = f"plain {alone:8.1f}  Ray {ray:8.1f}  ratio {ray / alone:.2f}"
            print(f"{replicas} replica(s): {case:<40} {figures}", flush=True)


def photo() -> bytes:
    """A photo of the size that a webcam sends, with one face."""
    stream = BytesIO()
    with Image.open(PHOTO) as picture:
        picture.convert("RGB").resize((320, 320)).save(stream, "JPEG", quality=85)
    return stream.getvalue()


def each_ms(url: str, data: bytes | None) -> float:
    """Median milliseconds of a request that has the service to itself."""
    spent = []
    with client(url) as http:
        for _ in range(30):
            started = perf_counter()
            ask(http, data)
            spent.append((perf_counter() - started) * 1000)
    return median(spent)


def rate(url: str, data: bytes | None, requests: int) -> float:
    """Requests a second with a few clients at once."""
    with client(url) as http, ThreadPoolExecutor(CLIENTS) as pool:
        started = perf_counter()
        for done in [pool.submit(ask, http, data) for _ in range(requests)]:
            done.result()
        return requests / (perf_counter() - started)


def ask(http: httpx.Client, data: bytes | None) -> None:
    """One request; raises where it is refused."""
    answer = http.get("/livez") if data is None else http.post("/detect-emotions", content=data)
    answer.raise_for_status()


def client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=60, trust_env=False)


def answers(url: str) -> bool:
    """Whether somebody answers there."""
    try:
        return httpx.get(url, timeout=60, trust_env=False).is_success
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main()
