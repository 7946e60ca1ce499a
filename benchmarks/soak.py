"""Many requests of many sizes against a real server, to see its memory stay where it was.

    python -m benchmarks.soak [--requests N] [--sizes N] [--most-growth SHARE] [--out FILE]

Every request is a JPEG of its own size, one of so many, the test portrait in it; every twentieth looks for
faces of 20 pixels. Two clients take turns with two workers. The resident set, decoder processes
included, is read after each hundredth part. Exits with 1 when what the server holds at the end is more than
--most-growth above what it held after the first thousand requests (or the first tenth, where that is less),
or when a request failed.
"""

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np

from benchmarks.clients import PATH, Client
from benchmarks.server import serving
from benchmarks.timing import machine
from benchmarks.workloads import ASTRONAUT

WARM, PARTS, CLIENTS = 1000, 100, 2


def images(sizes: int) -> Iterator[bytes]:
    """The portrait, stretched to random sizes from 48x48 to 800x800; the same ones each time."""
    random = np.random.default_rng(0)
    portrait = cv2.imread(str(ASTRONAUT))
    assert portrait is not None
    for width, height in np.exp(random.uniform(np.log(48), np.log(800), (sizes, 2))).astype(int).tolist():
        resized = cv2.resize(portrait, (width, height), interpolation=cv2.INTER_AREA)
        yield cv2.imencode(".jpg", resized)[1].tobytes()


def soak(requests: int, sizes: int) -> dict[str, Any]:
    """Resident megabytes after each part, and how many requests failed."""
    jobs = enumerate(islice(cycle(list(images(sizes))), requests))
    part = max(1, requests // PARTS)
    failed, resident, started = 0, [], perf_counter()
    with serving(None, log_level="warning") as server, ThreadPoolExecutor(CLIENTS) as pool:
        client = Client(server.port)

        def fails(job: tuple[int, bytes]) -> bool:
            number, image = job
            return client.ask(PATH if number % 20 else f"{PATH}?min_face_size=20", image) != 200

        while batch := list(islice(jobs, part)):
            failed += sum(pool.map(fails, batch))
            resident.append(round(server.resident_bytes() / 1e6, 1))
            print(f"{len(resident) * part} requests: {resident[-1]} MB", flush=True)
        ready_s = round(server.ready_s, 2)
    seconds = round(perf_counter() - started)
    return {
        "requests": requests,
        "sizes": sizes,
        "failed": failed,
        "seconds": seconds,
        "ready_s": ready_s,
    } | {
        "requests_between": part,
        "resident_mb": resident,
    }


def growth(run: dict[str, Any]) -> float:
    """The last resident set in terms of the one after the warm-up, less one."""
    resident, part = run["resident_mb"], run["requests_between"]
    warm = min(WARM, run["requests"] // 10)
    before: float = resident[min(len(resident) - 1, max(0, warm // part - 1))]
    return float(resident[-1]) / before - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--sizes", type=int, default=500)
    parser.add_argument("--most-growth", type=float, default=0.05)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    run = {"machine": machine()} | soak(options.requests, options.sizes)
    run["growth"] = round(growth(run), 4)
    if options.out:
        options.out.write_text(json.dumps(run, indent=1) + "\n")
    resident = run["resident_mb"]
    print(
        f"{run['requests']} requests of {run['sizes']} sizes in {run['seconds']} s, {run['failed']} failed."
    )
    print(f"Resident: at most {max(resident)} MB, {resident[-1]} MB at the end, growth {run['growth']:+.1%}.")
    if run["failed"] or run["growth"] > options.most_growth:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
