"""`fer-service video --ray`: many films, one to a task, as faces are followed from frame to frame."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
from pyarrow.fs import LocalFileSystem, copy_files
from ray.exceptions import RayError, RayTaskError

from service.media.analyzers import LocalAnalyzer, Model
from service.media.cluster.connection import alone
from service.media.cluster.folder import Folder
from service.media.cluster.places import Files, Place
from service.media.errors import ClusterError, MediaError
from service.media.frames import Video
from service.media.outputs import Paths
from service.media.progress import counting
from service.media.run import Report
from service.media.video import VideoRun, run_video
from service.runtime.model_store import ModelStore, ModelStoreError
from service.vision.pipeline import AnalysisOptions

# The summary is last: a film that has one is done.
_OUTPUTS = (".parquet", ".timeline.png", ".summary.json")
_RETRIES = 3
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FilmJob:
    """What to do with each film. every_s, window_s: seconds, as in VideoRun; model: which nodes must have."""

    files: Files
    out: Place
    options: AnalysisOptions
    store: Path | None
    model: Model
    every_s: float
    window_s: float
    restart: bool

    def name(self, path: str) -> str:
        """A film's name in the output folder: its path below the folder that was handed in."""
        return self.files.below(path)


def run_films_on_ray(job: FilmJob) -> Report:
    """Analyze all films on the cluster that this process has joined. Raises MediaError."""
    folder, report = Folder(job.out), Report()
    with alone(job.out), counting(len(job.files.sizes), "films") as meter:
        folder.begin(_identity(job), job.restart)
        done = set(folder.paths())
        rest = [path for path in job.files.sizes if job.out.below(job.name(path) + _OUTPUTS[-1]) not in done]
        meter.advance(len(job.files.sizes) - len(rest))
        for path, reason in _results(job, rest):
            meter.advance()
            if reason:
                report.failures.append((job.files.name(path), reason))
        report.photos, report.failed = len(job.files.sizes), len(report.failures)
        folder.finish({"complete": True, "films": report.photos, "failed": report.failed}, report.failures)
    return report


def _results(job: FilmJob, paths: list[str]) -> Iterator[tuple[str, str | None]]:
    """Each film as it is finished, with the reason where it failed.

    Raises ClusterError where a node cannot analyze any.
    """
    task = ray.remote(num_cpus=1, max_retries=_RETRIES)(_film)
    shared = ray.put(job)
    refusals = {path: reason for path in paths if (reason := job.files.refusal(path))}
    yield from refusals.items()
    running = {task.remote(shared, path): path for path in paths if path not in refusals}
    while running:
        (ready,), _ = ray.wait(list(running))
        path = running.pop(ready)
        try:
            yield path, ray.get(ready)
        except RayTaskError as error:
            if isinstance(error.cause, ClusterError | ModelStoreError):
                raise ClusterError(f"the run stopped, and can go on: {error.cause}") from error
            yield path, f"{type(error.cause).__name__}: {error.cause}"
        except RayError as error:
            yield path, f"its worker died: {type(error).__name__}"


def _film(job: FilmJob, path: str) -> str | None:
    """Analyze one film on some node; the reason where it cannot be. Raises ClusterError."""
    analyzer = LocalAnalyzer.load(ModelStore.open(job.store), job.options)
    if analyzer.model != job.model:
        raise ClusterError(f"a node has model {analyzer.model}, where the driver has {job.model}")
    with TemporaryDirectory() as scratch:
        try:
            files = _analyze(job, path, analyzer, Path(scratch))
        except (MediaError, ModelStoreError, OSError) as error:
            return str(error)
        folder = Folder(job.out)
        for suffix in _OUTPUTS:
            folder.write(job.name(path) + suffix, files[suffix].read_bytes())
    return None


def _analyze(job: FilmJob, path: str, analyzer: LocalAnalyzer, scratch: Path) -> Mapping[str, Path]:
    """The outputs by their suffix."""
    files = {suffix: scratch / f"film{suffix}" for suffix in _OUTPUTS}
    rows, timeline, summary = files.values()
    run = VideoRun(
        name=Path(path).name,
        every_s=job.every_s,
        window_s=job.window_s,
        segments=[],
        paths=Paths(rows, timeline, summary),
        thumbnails=False,
        workers=1,
        report_every_s=float("inf"),
    )
    with Video.open(_local(job, path, scratch)) as video:
        run_video(run, video, analyzer, log.info)
    return files


def _local(job: FilmJob, path: str, scratch: Path) -> str:
    """A path that a film can be played from: decoders seek, so one in object storage is fetched first."""
    if isinstance(job.files.place.filesystem, LocalFileSystem):
        return path
    target = scratch / Path(path).name
    copy_files(path, str(target), source_filesystem=job.files.place.filesystem)
    return str(target)


def _identity(job: FilmJob) -> dict[str, Any]:
    options = {"every_s": job.every_s, "window_s": job.window_s, **asdict(job.options)}
    return {"model": asdict(job.model), "options": options}
