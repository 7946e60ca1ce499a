"""`fer-service analyze` and `fer-service video`.

Exit codes: 0 all done, 1 some photos failed, 2 nothing could be done or the run had to stop, 130 interrupted,
141 nobody reads the output any more (as after `| head`).
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from service.media.analyzers import Analyzer, LocalAnalyzer
from service.media.bulk import Bulk, films_on_ray, photos_on_ray, refuse
from service.media.cues import read_cues
from service.media.durations import parse_duration
from service.media.errors import SourceError, media_extra
from service.media.interruption import Interruption
from service.media.journal import Journal
from service.media.options import (
    ConfidenceOption,
    FaceSizeOption,
    KeyOption,
    MaxFacesOption,
    ModelOption,
    RayOption,
    RecursiveOption,
    RestartOption,
    ServerOption,
    StoreOption,
    WorkersOption,
)
from service.media.overwriting import behind_links, refuse_overwriting, refuse_replacing
from service.media.photos import PhotoRun, run_photos
from service.media.records import readable
from service.media.run import Annotations, Report
from service.media.sources import PHOTO_SUFFIXES, common_folder, find_photos
from service.media.terminal import INTERRUPTED, SOME_FAILED, say, told_in_one_line
from service.media.writers import PhotoFormat
from service.runtime.cpus import usable_cpus
from service.runtime.model_store import ModelStore
from service.settings import read_settings
from service.telemetry.tracing import tracing_for
from service.vision.pipeline import AnalysisOptions

_REMOTE_WORKERS = 4
_GOES_ON = "with --out, the same command goes on from here"
_SUFFIXES: dict[str, PhotoFormat] = {
    ".json": "json", ".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet",
    "": "table", ".txt": "table", ".table": "table",
}  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(analyze)
    app.command()(video)


def analyze(  # noqa: PLR0917 - options, which are passed by name
    photos: Annotated[list[str], typer.Argument(metavar="PHOTO|FOLDER|GLOB...", show_default=False)],
    format: Annotated[  # noqa: A002 - the option's name
        PhotoFormat | None, typer.Option(help="Default: told from the suffix of --out, else table.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Write here; an interrupted run can go on. With --ray, a folder or its URI."
        ),
    ] = None,
    annotate: Annotated[Path | None, typer.Option(help="Folder for annotated pictures.")] = None,
    recursive: RecursiveOption = False,
    restart: RestartOption = False,
    workers: WorkersOption = None,
    model: ModelOption = None,
    min_face_size: FaceSizeOption = None,
    min_confidence: ConfidenceOption = 0.0,
    max_faces: MaxFacesOption = None,
    model_store: StoreOption = None,
    server: ServerOption = None,
    api_key: KeyOption = None,
    ray: RayOption = None,
) -> None:
    """Analyze photos, past bad files.

    Exit code: 0 all done, 1 some failed, 2 the run could not begin or go on, 130 interrupted.
    """
    options = AnalysisOptions(model, min_face_size, min_confidence, max_faces)
    with told_in_one_line(_GOES_ON) as interruption:
        if ray is not None:
            refuse("with", annotate=annotate, server=server, format=format not in (None, "parquet"))
            report = photos_on_ray(Bulk(ray, photos, recursive, out, options, model_store, restart), workers)
        else:
            at_once = workers or _workers(server)
            run = _photo_run(photos, format, out, annotate, recursive=recursive, workers=at_once)
            with (
                _analyzer(options, model_store, server, api_key, interruption) as analyzer,
                _journal(run, analyzer, options, restart) as journal,
            ):
                report = run_photos(run, analyzer, journal)
    _end(report, out)


def video(  # noqa: PLR0917
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|CAMERA", help="With --ray, any number of files and folders.", show_default=False
        ),
    ],
    every: Annotated[str, typer.Option(help="Time between analyzed frames; 0s for every frame.")] = "0.2s",
    window: Annotated[
        str | None,
        typer.Option(
            help="Length of a step of the timeline. Default: 1s, or --every where that is more.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Each face at each time: .csv, .jsonl or .parquet. With --ray, a folder."
        ),
    ] = None,
    timeline: Annotated[Path | None, typer.Option(help="The reaction timeline: .png, .svg or .pdf.")] = None,
    summary: Annotated[
        Path | None, typer.Option(help="Figures of the programme and its segments: JSON.")
    ] = None,
    segments: Annotated[Path | None, typer.Option(help="CSV with start, label and, optionally, end.")] = None,
    annotate: Annotated[Path | None, typer.Option(help="The analyzed frames with their faces: .mp4.")] = None,
    thumbnails: Annotated[bool, typer.Option("--thumbnails", help="Show frames on the timeline.")] = False,
    report_every: Annotated[str, typer.Option(help="Camera: time between reports.")] = "10s",
    recursive: RecursiveOption = False,
    restart: RestartOption = False,
    workers: WorkersOption = None,
    model: ModelOption = None,
    min_face_size: FaceSizeOption = None,
    min_confidence: ConfidenceOption = 0.0,
    max_faces: MaxFacesOption = None,
    model_store: StoreOption = None,
    server: ServerOption = None,
    api_key: KeyOption = None,
    ray: RayOption = None,
) -> None:
    """Follow the faces of a film or a live camera, and draw how the audience's expressions change.

    CAMERA is a number or a /dev/video path; it runs until Ctrl-C. Exit code: 0 done, 2 it could not begin
    or go on, 130 a film was interrupted.
    """
    options = AnalysisOptions(model, min_face_size, min_confidence, max_faces)
    if ray is not None:
        with told_in_one_line(_GOES_ON):
            outputs = {"timeline": timeline, "summary": summary, "annotate": annotate}
            refuse(
                "with", **outputs, segments=segments, thumbnails=thumbnails, workers=workers, server=server
            )
            bulk = Bulk(ray, sources, recursive, out, options, model_store, restart)
            report = films_on_ray(bulk, *_steps(every, window))
        _end(report, out, "films")
    with told_in_one_line() as interruption:
        refuse("without", recursive=recursive, restart=restart, more_than_one_film=len(sources) > 1)
        source = sources[0]
        with media_extra("fer-service video"):
            from service.media.frames import Video  # noqa: PLC0415 - only where the extra is installed
            from service.media.outputs import Paths  # noqa: PLC0415
            from service.media.video import VideoRun, run_video  # noqa: PLC0415
        figures = behind_links(summary) if summary else None
        paths = Paths(Path(out) if out else None, timeline, figures, annotate)
        outputs = {"--out": paths.rows, "--timeline": timeline, "--summary": summary, "--annotate": annotate}
        refuse_overwriting(outputs, filter(None, (Path(source), segments)))
        refuse_replacing("--summary", summary)
        every_s, window_s = _steps(every, window)
        run = VideoRun(
            name=readable(Path(source).name),
            every_s=every_s,
            window_s=window_s,
            segments=read_cues(segments) if segments else [],
            paths=paths,
            thumbnails=thumbnails,
            workers=workers or _workers(server),
            report_every_s=_seconds("--report-every", report_every),
            held=interruption.held,
        )
        if segments and not summary:
            raise SourceError("--segments shows in --summary only: say where that goes")
        if thumbnails and not timeline:
            raise SourceError("--thumbnails shows in --timeline only: say where that goes")
        with (
            Video.open(source) as opened,
            _analyzer(options, model_store, server, api_key, interruption) as analyzer,
        ):
            complete = run_video(run, opened, analyzer, say)
        raise typer.Exit(0 if complete or opened.live else INTERRUPTED)


@contextmanager
def _analyzer(
    options: AnalysisOptions,
    model_store: Path | None,
    server: str | None,
    api_key: str | None,
    interruption: Interruption,
) -> Iterator[Analyzer]:
    if server is not None:  # empty, as a variable that is not set, is no wish to have the work done here
        if model_store:
            raise SourceError("--model-store does not go with --server, which has models of its own")
        with media_extra("--server"):
            from service.media.remote import RemoteAnalyzer  # noqa: PLC0415 - only where the extra is installed
        with (
            closing(tracing_for(os.environ)) as tracing,
            closing(
                RemoteAnalyzer(server, api_key, options, interruption.wait, tracing, check=interruption.check)
            ) as remote,
        ):
            yield remote
    else:
        settings = read_settings(model_store=model_store)
        named = replace(options, model=options.model or settings.default_model)
        yield LocalAnalyzer.load(ModelStore.open(settings.model_store), named, settings.max_pixels)


def _photo_run(
    sources: list[str],
    asked: PhotoFormat | None,
    out: str | None,
    annotate: Path | None,
    *,
    recursive: bool,
    workers: int,
) -> PhotoRun:
    """What is to be done, with room for it. Raises SourceError for what cannot be meant."""
    kind = _format(asked, out)
    target = behind_links(Path(out)) if out else None
    found = find_photos(sources, recursive, exclude=annotate)
    refuse_overwriting({"--out": target}, found)
    refuse_replacing("--out", Path(out) if out else None)
    annotations = None
    if annotate:
        annotations = Annotations.beside(annotate, found, common_folder(sources))
        annotate.mkdir(parents=True, exist_ok=True)
    return PhotoRun(found, kind, target, workers, annotations)


def _journal(
    run: PhotoRun, analyzer: Analyzer, options: AnalysisOptions, restart: bool
) -> AbstractContextManager[Journal | None]:
    """Beside the output, of runs that would end as this one does."""
    if run.out is None:
        return nullcontext()
    identity = {
        "model": asdict(analyzer.model),
        "options": asdict(options),
        "annotate": str(run.annotations and run.annotations.folder),
    }
    return closing(Journal(run.out.with_name(run.out.name + ".journal.jsonl"), identity, restart))


def _format(asked: PhotoFormat | None, out: str | None) -> PhotoFormat:
    suffix = Path(out).suffix.lower() if out else ""
    if suffix in PHOTO_SUFFIXES:
        raise SourceError(f"--out: {out} is named as a photo is; the shell makes several names of *.jpg")
    if asked is None and suffix not in _SUFFIXES:
        raise SourceError(f"--out: {out} has a suffix of no format: say which with --format")
    told = _SUFFIXES.get(suffix, "table")
    if asked == "parquet" and not out:
        raise SourceError("parquet is no text: say where it goes with --out")
    if (asked or told) == "parquet":
        with media_extra("the parquet format"):
            import pyarrow  # noqa: F401, PLC0415 - told before the first photo, not after the last
    return asked or told


def _steps(every: str, window: str | None) -> tuple[float, float]:
    """Seconds between analyzed frames, and of a step of the timeline, which shows one of them at least."""
    every_s = _seconds("--every", every)
    return every_s, max(1.0, every_s) if window is None else _seconds("--window", window, least=0.001)


def _seconds(option: str, text: str, least: float = 0.0) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise SourceError(f"{option}: {error}") from error
    if seconds < least:
        raise SourceError(f"{option}: it must be at least {least} s")
    return seconds


def _workers(server: str | None) -> int:
    return usable_cpus() if server is None else _REMOTE_WORKERS


def _end(report: Report, out: str | None, unit: str = "photos") -> NoReturn:
    faces = f", {report.faces} faces" if unit == "photos" else ""
    say(f"{report.photos} {unit}{faces}, {report.failed} failed" + (f"; {out}" if out else ""))
    for file, reason in report.failures:
        say(f"  {file}: {reason}")
    if report.failed > len(report.failures):
        say(f"  and {report.failed - len(report.failures)} more")
    raise typer.Exit(SOME_FAILED if report.failed else 0)
