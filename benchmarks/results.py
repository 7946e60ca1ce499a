"""What `benchmarks.speed` measured, as tables, and which of the project's targets it meets."""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.server import Load
from benchmarks.timing import table

OURS = "this project"
FACENET = "facenet-pytorch MTCNN"

# Detection alone, in terms of facenet-pytorch's time: what YuNet takes of it on the same photos.
DETECTION_TARGETS = {"W1": 0.42, "W2": 0.21, "W4 1920x1440, crowd, from 40": 0.30}


@dataclass(frozen=True, slots=True)
class Row:
    """Milliseconds for one workload; http_ms is None where there was no server.

    in_process_ms: as it is served, with every core; one_thread_ms: the same with one, as bare_ms is.
    """

    workload: str
    faces: int
    in_process_ms: float
    one_thread_ms: float
    bare_ms: float
    http_ms: float | None

    @property
    def overhead(self) -> float:
        """The whole in terms of its bare bound."""
        return self.in_process_ms / self.bare_ms


@dataclass(frozen=True, slots=True)
class PeerCell:
    """Milliseconds and faces of one program on one decoded picture; emotions: told as well."""

    workload: str
    program: str
    emotions: bool
    ms: float
    faces: int


@dataclass(frozen=True, slots=True)
class Results:
    """One run. missing: peers that could not run, and why; two_workers: throughput in terms of one's."""

    machine: dict[str, str | int | float]
    rows: list[Row]
    peers: list[PeerCell]
    missing: dict[str, str]
    two_workers: float
    ready_s: float
    closed: dict[int, Load]
    paced: Load


@dataclass(frozen=True, slots=True)
class Target:
    """A promise, what was measured of it, and whether that keeps it."""

    promise: str
    measured: str
    met: bool


def report(results: Results) -> str:
    """All tables, in Markdown."""
    about = "; ".join(f"{key.replace('_', ' ')} {value}" for key, value in results.machine.items())
    parts = [about, project_table(results.rows), peer_table(results, emotions=False)]
    parts += [peer_table(results, emotions=True), load_table(results), target_table(results)]
    parts += [f"{name} is left out: {why}." for name, why in results.missing.items()]
    return "\n\n".join(parts)


def project_table(rows: list[Row]) -> str:
    head = [
        "workload",
        "faces",
        "in process, ms",
        "in process / bare",
        "one thread / bare",
        "over HTTP / in process",
        "HTTP adds, ms",
    ]
    lines = []
    for row in rows:
        http = ["", ""]
        if row.http_ms is not None:
            http = [f"{row.http_ms / row.in_process_ms:.2f}", f"{row.http_ms - row.in_process_ms:+.1f}"]
        ratios = [f"{row.overhead:.2f}", f"{row.one_thread_ms / row.bare_ms:.2f}"]
        lines.append([row.workload, str(row.faces), f"{row.in_process_ms:.1f}", *ratios, *http])
    return table(head, lines)


def peer_table(results: Results, *, emotions: bool) -> str:
    """Each program's time in terms of this project's, and the faces that it finds."""
    cells = {(c.program, c.workload): c for c in results.peers if c.emotions == emotions}
    workloads = list(dict.fromkeys(c.workload for c in results.peers))
    programs = list(dict.fromkeys(program for program, _ in cells))
    lines = []
    for program in programs:
        line = [program]
        for workload in workloads:
            cell, ours = cells.get((program, workload)), cells[OURS, workload]
            if cell is None:
                line.append("")
                continue
            shown = f"{cell.ms:.1f} ms" if program == OURS else f"{cell.ms / ours.ms:.1f}x"
            line.append(f"{shown} ({cell.faces})")
        lines.append(line)
    return table(["detection and emotion" if emotions else "detection alone", *workloads], lines)


def load_table(results: Results) -> str:
    head = ["W6 clients", "requests/s", "median, ms", "p99, ms", "p99 / median", "failed"]
    loads = [*results.closed.items(), (f"open loop at {results.paced.rate:.0f}/s", results.paced)]
    lines = [
        [
            str(name),
            f"{run.rate:.1f}",
            f"{run.median_ms:.1f}",
            f"{run.p99_ms:.1f}",
            f"{run.p99_ms / run.median_ms:.1f}",
            str(run.failed),
        ]
        for name, run in loads
    ]
    return table(head, lines)


def target_table(results: Results) -> str:
    lines = [[each.promise, each.measured, "met" if each.met else "not met"] for each in targets(results)]
    return table(["target", "measured", ""], lines)


def targets(results: Results) -> Iterator[Target]:
    rows = {row.workload.split()[0]: row for row in reversed(results.rows)}
    yield from overhead_targets(results.rows)
    yield from peer_targets(results)
    first = rows["W1"]
    assert first.http_ms is not None
    added = first.http_ms - first.in_process_ms
    allowed = max(1.0, 0.1 * first.in_process_ms)
    yield Target("W1 over HTTP: at most 10 % or 1 ms more", f"{added:+.2f} ms", added <= allowed)
    pair = results.two_workers
    yield Target("two workers: at least 1.6 times one", f"{pair:.2f}", pair >= 1.6)
    if "W3" in rows:
        share = rows["W3"].in_process_ms / first.in_process_ms
        yield Target("W3: at most 4 times W1", f"{share:.2f}", share <= 4)
    tail = results.paced.p99_ms / results.paced.median_ms
    failed = results.paced.failed
    measured = f"{tail:.1f}" + (f", {failed} failed" if failed else "")
    yield Target("p99 at 80 % of peak: under 5 medians", measured, tail < 5 and not failed)
    yield Target("start to ready: under 2 s", f"{results.ready_s:.2f} s", results.ready_s < 2)


def overhead_targets(rows: list[Row]) -> Iterator[Target]:
    for row in rows:
        if row.http_ms is not None:
            met = row.in_process_ms <= max(1.3 * row.bare_ms, row.bare_ms + 2)
            promise = f"{row.workload}: at most 1.3 times the bare bound, or 2 ms more"
            yield Target(promise, f"{row.overhead:.2f}, {row.in_process_ms - row.bare_ms:+.1f} ms", met)


def peer_targets(results: Results) -> Iterator[Target]:
    for start, share in DETECTION_TARGETS.items():
        alone = {c.program: c.ms for c in _cells(results, start, emotions=False)}
        if FACENET in alone:
            ratio = alone[OURS] / alone[FACENET]
            yield Target(
                f"{start}: detection at most {share} of facenet-pytorch's time",
                f"{ratio:.2f}",
                ratio <= share,
            )
        both = {c.program: c.ms for c in _cells(results, start, emotions=True)}
        others = [ms for program, ms in both.items() if program != OURS]
        if others:
            factor = min(others) / both[OURS]
            promise = f"{start}: detection and emotion 3 times faster than the fastest peer"
            yield Target(promise, f"{factor:.2f}", factor >= 3)


def _cells(results: Results, start: str, *, emotions: bool) -> list[PeerCell]:
    return [c for c in results.peers if c.workload.startswith(start) and c.emotions == emotions]
