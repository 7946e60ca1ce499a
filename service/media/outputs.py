"""Everything that a run over a video writes, opened before the first frame and completed whatever happens."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from service.media.encoder import VideoWriter
from service.media.errors import SourceError
from service.media.holding import HeldError, hold
from service.media.programme import FACE_COLUMNS, Sample
from service.media.writers import RowFormat, Writer, row_writer
from service.vision.draw import annotate

_FORMATS: dict[str, RowFormat] = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet"}
_PICTURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True, slots=True)
class Paths:
    """Where a run's outputs go; None for those that were not asked for."""

    rows: Path | None = None
    timeline: Path | None = None
    summary: Path | None = None
    annotated: Path | None = None


class FrameOutputs:
    """The outputs that grow with every frame."""

    def __init__(self, rows: Writer | None, video: VideoWriter | None) -> None:
        self._rows, self._video = rows, video

    def add(self, sample: Sample) -> None:
        """Write one frame's faces."""
        if self._rows:
            for row in sample.rows():
                self._rows.write(row)
        if self._video:
            self._video.write(sample.frame.time_s, annotate(sample.frame.pixels, sample.smoothed()))

    def ended(self, end_s: float) -> None:
        """No frame comes any more, and the last one was over then."""
        if self._video:
            self._video.end_s = end_s


@contextmanager
def frame_outputs(paths: Paths) -> Iterator[FrameOutputs]:
    """Open them; complete them at the end, interrupted or not. Raises SourceError for a bad suffix."""
    if paths.timeline and paths.timeline.suffix.lower() not in _PICTURES:
        raise SourceError(f"{paths.timeline}: a timeline is written as {', '.join(_PICTURES)}")
    # Told now, and not when the film has been seen.
    for path in filter(None, (paths.timeline, paths.summary)):
        if not os.access(path.parent, os.W_OK):
            raise SourceError(f"{path} cannot be written: {path.parent} is no folder that can be written to")
    if paths.timeline and paths.timeline.exists() and not os.access(paths.timeline, os.W_OK):
        raise SourceError(f"{paths.timeline} cannot be written: it is there, and may not be changed")
    with ExitStack() as stack:
        # The film first: it touches no file before its first frame, while the rows make older ones go.
        video = VideoWriter(paths.annotated) if paths.annotated else None
        if video:
            stack.callback(video.close)
        rows = _open_rows(paths.rows, stack) if paths.rows else None
        yield FrameOutputs(rows, video)


def _open_rows(path: Path, stack: ExitStack) -> Writer:
    if path.suffix.lower() not in _FORMATS:
        raise SourceError(f"{path}: rows are written as .csv, .jsonl or .parquet")
    # Line by line, so that a camera's rows are there for who looks meanwhile, and after a crash.
    stream = stack.enter_context(path.open("a", buffering=1, newline="", encoding="utf-8"))
    if path.is_file():  # not /dev/null or a pipe: they have no length, and no one owner
        _begin_anew(stream, path)
    writer = row_writer(_FORMATS[path.suffix.lower()], stream, path, FACE_COLUMNS)
    stack.callback(writer.close)
    return writer


def _begin_anew(stream: TextIO, path: Path) -> None:
    try:
        hold(stream)
    except HeldError as error:
        raise SourceError(f"{path} is being written to by another run") from error
    stream.truncate(0)
