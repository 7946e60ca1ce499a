"""What a container of the image needs: CPU time to become ready, CPU time and memory an image, by image size.

CPU time hardly depends on what else the machine does, so figures of a shared machine can be compared.
Run: make evaluate-container (builds nothing: `make image` first).
"""

import argparse
import io
import os
import re
import statistics
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
from PIL import Image

from benchmarks.workloads import ASTRONAUT
from tests.image import containers
from tests.image.conftest import free_port
from tests.image.containers import Container

# A JPEG is decoded at the size that detection needs; a PNG has to be decoded whole.
PICTURES = (("JPEG", 0.3), ("JPEG", 2), ("JPEG", 12), ("PNG", 2), ("PNG", 12), ("PNG", 25))
MEMORY = "--memory=3g"


def picture(kind: str, megapixels: float) -> bytes:
    """The astronaut's portrait in that format with so many million pixels."""
    side = round((megapixels * 1e6) ** 0.5)
    buffer = io.BytesIO()
    resized = Image.open(ASTRONAUT).resize((side, side), Image.Resampling.BICUBIC)
    resized.save(buffer, kind, quality=90, compress_level=1)
    return buffer.getvalue()


@contextmanager
def running(image: str, cpus: int) -> Iterator[Container]:
    """A ready container with so many CPUs."""
    port = free_port()
    options = (
        f"--cpus={cpus}",
        MEMORY,
        "--env",
        "FER_LOG_LEVEL=warning",
        "--env",
        "FER_REQUEST_TIMEOUT_S=60",
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=90, trust_env=False) as client:
        container = Container(containers.start(image, port, *options), client)
        try:
            container.wait_for("/readyz")
            yield container
        finally:
            containers.call("kill", container.name)
            containers.call("rm", "--force", container.name)


def cpu_seconds(container: Container) -> float:
    """What all its processes have spent, those that have ended included."""
    stats = container.run("sh", "-c", "cat /proc/[0-9]*/stat").stdout
    ticks = [int(tick) for line in stats.splitlines() for tick in line.rpartition(")")[2].split()[11:15]]
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


def peak_megabytes(container: Container) -> float:
    """The most that each process has had resident, added up."""
    status = container.run("sh", "-c", "cat /proc/[0-9]*/status").stdout
    return sum(int(kilobytes) for kilobytes in re.findall(r"VmHWM:\s+(\d+) kB", status)) / 1000


def post(container: Container, data: bytes, requests: int, parallel: int) -> None:
    """Send the image so many times, so many at a time."""

    def one(_: int) -> None:
        answer = container.client.post(
            "/detect-emotions", content=data, headers={"Content-Type": "image/jpeg"}
        )
        answer.raise_for_status()

    with ThreadPoolExecutor(parallel) as pool:
        list(pool.map(one, range(requests)))


def start_line(image: str, rounds: int) -> str:
    """CPU seconds until ready, and memory then."""
    seconds, memory = [], []
    for _ in range(rounds):
        with running(image, 1) as container:
            seconds.append(cpu_seconds(container))
            memory.append(peak_megabytes(container))
    cpu, resident = statistics.median(seconds), statistics.median(memory)
    return f"ready after {cpu:.2f} s of CPU time; {resident:.0f} MB resident"


def image_row(image: str, cpus: int, data: bytes, requests: int) -> str:
    """CPU milliseconds an image and peak memory, with twice as many requests at a time as CPUs."""
    with running(image, cpus) as container:
        post(container, data, cpus, cpus)
        before = cpu_seconds(container)
        post(container, data, requests, 2 * cpus)
        spent = cpu_seconds(container) - before
        peak = peak_megabytes(container)
    return f"{1000 * spent / requests:.0f} | {peak:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", default="localhost/fer-service:dev")
    parser.add_argument("--requests", type=int, default=16)
    arguments = parser.parse_args()
    print(start_line(arguments.image, 3))
    print("| format | megapixels | MB sent | CPUs | CPU ms an image | peak MB |")
    print("|---|---|---|---|---|---|")
    for kind, megapixels in PICTURES:
        data = picture(kind, megapixels)
        for cpus in (1, 2):
            row = image_row(arguments.image, cpus, data, arguments.requests)
            print(f"| {kind} | {megapixels:g} | {len(data) / 1e6:.1f} | {cpus} | {row} |", flush=True)


if __name__ == "__main__":
    main()
