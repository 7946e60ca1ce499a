"""The project beside the bare graphs, itself over HTTP, and its peers, in one run.

    python -m benchmarks.speed [--photos FOLDER] [--peers FOLDER] [--rounds N] [--seconds S] [--out FILE]

What is compared takes turns, and medians are told. In the first table, `in process` is the whole analysis of
a file as the service makes it, with all cores; `one thread` the same on one; `bare` is decoding the same file
and running the same graphs on the same arrays, on one thread, and nothing else; `over HTTP` is a request of
one client to a server on loopback that has the default settings, its log included. In the tables of peers all
programs get the same pixels, decoded already, may use all cores (or `--peer-threads`, this project too), and
have the same smallest face and thresholds, where they have such; the number of faces that each finds is in
brackets, and ratios are to this project's time. They take a third of the rounds. With `--clock cpu` processor
time is told of everything but W6 and the two workers: what programs can be compared by on a machine that is
not idle.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.bare import bound, recording
from benchmarks.clients import PATH, Client
from benchmarks.peers.client import Kind, Peer, UnavailableError, available
from benchmarks.results import OURS, PeerCell, Results, Row, report
from benchmarks.server import Load, Server, load, serving
from benchmarks.timing import CLOCKS, interleaved, machine, timed
from benchmarks.workloads import Workload, photos, portrait
from service.runtime.cpus import usable_cpus
from service.runtime.engine import Engine
from service.runtime.model_store import ModelStore
from service.server import SWITCH_INTERVAL_S
from service.vision.mtcnn import default_min_face_size
from service.vision.pipeline import EmotionPipeline
from service.vision.types import DecodedImage

READY_CROPS = 64
CLIENTS = (1, 2, 8, 32)
PAIR_IMAGES = 40


def helped(pipeline: EmotionPipeline, threads: int | None = None) -> EmotionPipeline:
    """As it is served when nothing else is asked: the runs of one image share the cores, or so many."""
    others = min(usable_cpus(), threads or usable_cpus()) - 1
    return pipeline.helped_by(Engine(others, 0)) if others else pipeline


def post(server: Server, workload: Workload, clock: str) -> float:
    """Milliseconds of one request on a connection that is open already; with "cpu" the server's alone.

    Raises SystemExit where the answer is not 200: what a refusal takes is no figure.
    """
    client = Client(server.port)
    # The kernel opens a connection before the server has taken it: it has only once it has answered.
    client.ask("/livez")
    query = f"?min_face_size={workload.min_face_size}" if workload.min_face_size else ""
    before = server.cpu_seconds()
    started = perf_counter()
    status = client.ask(PATH + query, workload.data)
    wall = perf_counter() - started
    if status != 200:
        raise SystemExit(f"{workload.name}: the service answered with {status}")
    return (wall if clock == "wall" else server.cpu_seconds() - before) * 1000


def compare(
    store: ModelStore, workloads: Sequence[Workload], server: Server, rounds: int, clock: str
) -> list[Row]:
    """The first table's rows for whole images."""
    alone = store.pipeline()
    pipeline = helped(alone)
    clocks: dict[tuple[str, str], Callable[[], float]] = {}
    for workload in workloads:
        analysis = partial(pipeline.analyze, workload.data, workload.options)
        clocks[workload.name, "in process"] = partial(timed, analysis, clock)
        analysis = partial(alone.analyze, workload.data, workload.options)
        clocks[workload.name, "one thread"] = partial(timed, analysis, clock)
        clocks[workload.name, "bare"] = partial(timed, bound(store, workload), clock)
        clocks[workload.name, "http"] = partial(post, server, workload, clock)
    took = interleaved(clocks, rounds)
    columns = ("in process", "one thread", "bare", "http")
    found = (len(pipeline.analyze(each.data, each.options).faces) for each in workloads)
    return [
        Row(each.name, faces, *(took[each.name, column] for column in columns))
        for each, faces in zip(workloads, found, strict=True)
    ]


def classify_ready_crops(store: ModelStore, rounds: int, clock: str) -> Row:
    """W5: the classifier alone."""
    pipeline, calls = recording(store)
    crops = np.random.default_rng(0).integers(0, 256, (READY_CROPS, 1, 48, 48), np.uint8)
    pipeline.classifier(None).classify(crops)
    alone = store.pipeline()
    columns: dict[str, Callable[[], object]] = {
        "in process": partial(helped(alone).classifier(None).classify, crops),
        "one thread": partial(alone.classifier(None).classify, crops),
        "bare": lambda: [call() for call in calls],
    }
    clocks = {column: partial(timed, call, clock) for column, call in columns.items()}
    took = interleaved(clocks, rounds)
    return Row(
        f"W5 {READY_CROPS} ready crops",
        READY_CROPS,
        in_process_ms=took["in process"],
        one_thread_ms=took["one thread"],
        bare_ms=took["bare"],
        http_ms=None,
    )


def throughput(pipeline: EmotionPipeline, data: bytes, workers: int) -> float:
    """Images a second that so many worker threads get through."""
    with ThreadPoolExecutor(workers) as pool:
        start = perf_counter()
        list(pool.map(pipeline.analyze, [data] * PAIR_IMAGES))
        return PAIR_IMAGES / (perf_counter() - start)


def two_workers(store: ModelStore, data: bytes, rounds: int) -> float:
    """The throughput of two worker threads in terms of one's."""
    pipeline = store.pipeline()
    return median(throughput(pipeline, data, 2) / throughput(pipeline, data, 1) for _ in range(rounds))


def analyzed(pipeline: EmotionPipeline, image: DecodedImage, workload: Workload) -> int:
    return len(pipeline.analyze_decoded(image, workload.options).faces)


def detected(pipeline: EmotionPipeline, image: DecodedImage, workload: Workload) -> int:
    return len(pipeline.detect(image, workload.options))


def smallest_face(workload: Workload, image: DecodedImage) -> int:
    """What the workload asks of a peer that sees the decoded pixels."""
    size = workload.min_face_size or default_min_face_size(image.width, image.height)
    return round(size)


def beside_peers(
    store: ModelStore,
    workloads: Sequence[Workload],
    peers: dict[Kind, Peer],
    folder: Path,
    *,
    rounds: int,
    clock: str,
    threads: int | None,
) -> list[PeerCell]:
    """The second table's cells."""
    pipeline = helped(store.pipeline(), threads)
    clocks: dict[tuple[str, str, bool], Callable[[], float]] = {}
    faces: dict[tuple[str, str, bool], int] = {}
    for number, workload in enumerate(workloads):
        pixels = full_pixels(workload.data)
        image = DecodedImage(pixels, pixels.shape[1], pixels.shape[0], "jpeg", 1)
        for emotions, run in ((False, detected), (True, analyzed)):
            call = partial(run, pipeline, image, workload)
            faces[workload.name, OURS, emotions] = call()
            clocks[workload.name, OURS, emotions] = partial(timed, call, clock)
        path = folder / f"{number}.npy"
        np.save(path, pixels)
        for kind, peer in peers.items():
            key, size = (workload.name, kind.title, kind.emotions), smallest_face(workload, image)
            ask = partial(peer.ask, path, size, clock)
            try:
                faces[key] = ask()[1]
            except UnavailableError as error:
                print(f"{kind.title} is left out of {workload.name}: {error}")
                continue
            clocks[key] = partial(first, ask)
    took = interleaved(clocks, rounds)
    return [PeerCell(*key, ms=took[key], faces=faces[key]) for key in clocks]


def first(call: Callable[[], tuple[float, int]]) -> float:
    return call()[0]


def full_pixels(data: bytes) -> NDArray[Any]:
    """All of the upright image: peers do not read JPEGs at a reduced scale, as this project does."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def under_load(seconds: float) -> tuple[dict[int, Load], Load]:
    """W6: closed loops of more and more clients, then an open one at 80 % of the best rate."""
    image = portrait().data
    with serving() as server:
        load(server.port, image, clients=2, seconds=1)
        closed = {clients: load(server.port, image, clients=clients, seconds=seconds) for clients in CLIENTS}
        rate = 0.8 * max(run.rate for run in closed.values())
        return closed, load(server.port, image, clients=64, seconds=2 * seconds, rate=rate)


def measure(options: argparse.Namespace) -> Results:
    """Everything, one after the other."""
    store, workloads = ModelStore.open(), list(photos(options.photos))
    emotion = store.manifest.emotion[store.manifest.default]
    about = machine() | {"emotion_graph": emotion.sha256[:12], "peer_threads": options.peer_threads or "any"}
    about["clock"] = options.clock
    with serving() as server:
        rows, ready_s = compare(store, workloads, server, options.rounds, options.clock), server.ready_s
    rows.append(classify_ready_crops(store, options.rounds, options.clock))
    with (
        tempfile.TemporaryDirectory() as folder,
        available(options.peers, options.peer_threads) as (peers, missing),
    ):
        few = max(1, options.rounds // 3)
        cells = beside_peers(
            store,
            workloads,
            peers,
            Path(folder),
            rounds=few,
            clock=options.clock,
            threads=options.peer_threads,
        )
    pair = two_workers(store, workloads[0].data, max(1, options.rounds // 3))
    closed, paced = under_load(options.seconds)
    absent = {kind.title: why for kind, why in missing.items()}
    return Results(about, rows, cells, absent, pair, ready_s, closed, paced)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", type=Path, default=Path("../shared/data/photos"))
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers"), help="made by `make peers`")
    parser.add_argument(
        "--peer-threads", type=int, help="of each program in the peers' tables; as it likes if not given"
    )
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: where others use the machine too"
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=5, help="of each closed loop of clients")
    parser.add_argument("--out", type=Path, default=Path("docs/measured/speed.json"))
    options = parser.parse_args()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    results = measure(options)
    print(report(results))
    options.out.write_text(json.dumps(asdict(results), indent=1) + "\n")


if __name__ == "__main__":
    main()
