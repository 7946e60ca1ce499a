"""`fer-service analyze --ray`: a bulk job on Ray Data, from photos to Parquet, each photo exactly once.

    read_binary_files -> PhotoActor (a pipeline on one CPU) -> write_parquet

The job runs over what the output does not hold yet, which is also how an interrupted one goes on. Ray tries a
block again when its worker or node dies. A block that is lost for good, to a photo that cannot be opened or
that kills its worker, does not end the job: a second pass runs over its photos one by one, and what is still
missing then is on the list of failures.
"""

import logging
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from pyarrow.fs import FileType
from ray.exceptions import RayError

from service.media.analyzers import LocalAnalyzer, Model
from service.media.cluster.connection import alone, cpus
from service.media.cluster.output import SCHEMA, Output, Tally
from service.media.cluster.places import Files, Place
from service.media.errors import ClusterError
from service.media.records import Record, failed_record, photo_record, photo_rows
from service.media.run import MAX_FILE_BYTES, Report, guarded
from service.runtime.model_store import ModelStore
from service.vision.pipeline import DEFAULT_MAX_PIXELS, AnalysisOptions

# A photo in an actor's hands costs its file and its pixels; the rest of a block waits in Ray's object store.
_BATCH = 16
_LEAST_BLOCK, _MOST_BLOCK = 16, 1000
# Blocks that may be lost before something other than the photos must be wrong.
_LOST_BLOCKS = 100
# Actors that may die one after another while they start, as with a node, before a start must be impossible.
_LOST_STARTS = 5
_RETRIES = 2
# The rest of an actor's CPU is for reading and writing: a job whose actors had it all would wait for ever.
_IO_CPUS = 0.1
_ACTOR_CPUS = 1 - _IO_CPUS
_LOST_BY_RAY = "Ray cannot read a path with a tab or a line break in it, or with ? or ; at its end"


@dataclass(frozen=True, slots=True)
class PhotoJob:
    """What to do. actors: at most so many at once, None for as many as the cluster has CPUs for.

    max_pixels: larger photos are refused.
    """

    files: Files
    out: Place
    options: AnalysisOptions
    store: Path | None
    actors: int | None
    restart: bool
    max_pixels: int = DEFAULT_MAX_PIXELS


class PhotoActor:
    """One pipeline, in a process of its own on some node, for batches of photos."""

    def __init__(
        self, store: Path | None, options: AnalysisOptions, model: Model, prefix: str, max_pixels: int
    ) -> None:
        self._analyzer = LocalAnalyzer.load(ModelStore.open(store), options, max_pixels)
        if self._analyzer.model != model:
            raise ClusterError(f"a node has model {self._analyzer.model}, where this one has {model}")
        self._prefix = prefix

    def __call__(self, batch: pa.Table) -> pa.Table:
        """From the columns `path` and `bytes` to the rows of SCHEMA."""
        pairs = zip(batch["path"].to_pylist(), batch["bytes"], strict=True)
        records = [self.record(self._prefix + path, data.as_buffer()) for path, data in pairs]
        return pa.Table.from_pylist([row for one in records for row in photo_rows(one)], schema=SCHEMA)

    def record(self, file: str, data: pa.Buffer) -> Record:
        """One photo's record, or that of its failure."""
        analyzer = self._analyzer
        return guarded(file, lambda: photo_record(file, analyzer.photo(data.to_pybytes()), analyzer.model))


def run_photos_on_ray(job: PhotoJob, model: Model, actor: type[PhotoActor] = PhotoActor) -> Report:
    """Analyze all photos on the cluster that this process has joined. Raises MediaError.

    model: which every node must have. actor: does the work.
    """
    output = Output(job.out)
    if not _kept_by_ray(job.out.path):
        raise ClusterError(f"{job.out}: {_LOST_BY_RAY}: choose another folder")
    with alone(job.out):
        output.begin({"model": asdict(model), "options": asdict(job.options)}, job.restart)
        tally = output.tally()
        for one_by_one in (False, True):
            rest = _rest(job.files, tally)
            if one_by_one:
                rest = _still_there(job.files, rest)
            if not rest:
                break
            _pass(job, model, actor, rest, block=1 if one_by_one else _block(len(rest)))
            tally = output.tally()
        missing = [
            failed_record(job.files.name(path), _why(job.files, path)) for path in _undone(job.files, tally)
        ]
        if missing:
            output.add(missing)
            tally = output.tally()
        report = _checked(job, tally)
        output.finish(_as_json(report, model), tally.failures)
        return report


def _pass(job: PhotoJob, model: Model, actor: type[PhotoActor], paths: list[str], block: int) -> None:
    """Run over these photos, `block` of them to an output file."""
    context = ray.data.DataContext.get_current()
    context.max_errored_blocks = _LOST_BLOCKS
    context.max_consecutive_actor_init_deaths = _LOST_STARTS
    context.enable_progress_bars = sys.stderr.isatty()
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    try:
        ray.data.read_binary_files(
            paths,
            filesystem=job.files.place.filesystem,
            include_paths=True,
            ignore_missing_paths=True,
            override_num_blocks=ceil(len(paths) / block),
            num_cpus=_IO_CPUS,
        ).map_batches(
            actor,
            fn_constructor_args=(job.store, job.options, model, job.files.place.prefix, job.max_pixels),
            batch_format="pyarrow",
            batch_size=min(_BATCH, block),
            num_cpus=_ACTOR_CPUS,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=job.actors or cpus()),
            max_task_retries=_RETRIES,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
        ).write_parquet(job.out.path, filesystem=job.out.filesystem, ray_remote_args={"num_cpus": _IO_CPUS})
    except (RayError, OSError) as error:
        raise ClusterError(f"the run stopped, and can go on: {_last_line(error)}") from error


def _block(photos: int) -> int:
    """Photos to an output file: so few that little is lost with a node, so many that files are not tiny."""
    return max(_LEAST_BLOCK, min(_MOST_BLOCK, photos // 1000))


def _rest(files: Files, tally: Tally) -> list[str]:
    """Photos that can be read and are not in the output."""
    return [path for path in _undone(files, tally) if _refusal(files, path) is None]


def _still_there(files: Files, paths: list[str]) -> list[str]:
    """Ray refuses to begin where it finds none."""
    infos = files.place.filesystem.get_file_info(paths)
    return [path for path, info in zip(paths, infos, strict=True) if info.type == FileType.File]


def _undone(files: Files, tally: Tally) -> list[str]:
    return [path for path in files.sizes if files.name(path) not in tally.photos]


def _refusal(files: Files, path: str) -> str | None:
    """Why a photo is not even read."""
    if reason := files.refusal(path):
        return reason
    if not _kept_by_ray(path):
        return _LOST_BY_RAY
    return f"larger than {MAX_FILE_BYTES} bytes" if (files.sizes[path] or 0) > MAX_FILE_BYTES else None


def _kept_by_ray(path: str) -> bool:
    """Whether Ray, which takes a path apart as a URL, puts it together again."""
    return not path.endswith(("?", ";")) and not set(path) & set("\t\r\n")


def _why(files: Files, path: str) -> str:
    """Why a photo is missing after the second pass."""
    refusal = _refusal(files, path)
    if refusal:
        return refusal
    try:
        with files.place.filesystem.open_input_stream(path) as stream:
            stream.read(1)
    except OSError as error:
        return str(error)
    return f"its worker died {_RETRIES + 1} times"


def _checked(job: PhotoJob, tally: Tally) -> Report:
    """The report. Raises ClusterError where a photo is not in the output exactly once."""
    wrong = [path for path in job.files.sizes if tally.photos[job.files.name(path)] != 1]
    if wrong:
        raise ClusterError(
            f"{len(wrong)} photos are not in {job.out} exactly once, "
            f"{job.files.name(wrong[0])} the first: begin again with --restart"
        )
    report = Report(photos=len(tally.photos), faces=tally.faces, failed=len(tally.failures))
    report.failures.extend(tally.failures[:50])
    return report


def _as_json(report: Report, model: Model) -> Mapping[str, Any]:
    return {
        "complete": True,
        "photos": report.photos,
        "faces": report.faces,
        "failed": report.failed,
        "model": asdict(model),
    }


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
