"""`fer-service analyze`: from paths to an output file or the terminal."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from service.media.analyzers import Analyzer
from service.media.errors import ReaderGoneError, SourceError
from service.media.journal import Journal
from service.media.overwriting import draft_of
from service.media.progress import counting
from service.media.records import readable
from service.media.run import Annotations, PhotoWork, Report, analyze_all, analyze_on
from service.media.writers import PhotoFormat, Writer, photo_writer


@dataclass(frozen=True, slots=True)
class PhotoRun:
    """What to do. out: None for the terminal, from which no run can go on."""

    photos: list[Path]
    format: PhotoFormat
    out: Path | None
    workers: int
    annotations: Annotations | None


def run_photos(run: PhotoRun, analyzer: Analyzer, journal: Journal | None) -> Report:
    """Analyze all photos and write the output; what failed is in the report. Raises MediaError.

    With a journal, the output appears in one step when all photos are done, and the journal goes.
    """
    work, report = PhotoWork(analyzer, run.annotations), Report()
    with counting(len(run.photos), "photos") as meter, _writer(run) as writer:
        if journal:
            records = analyze_on(work, run.photos, run.workers, journal, meter.advance)
        else:
            records = analyze_all(work, run.photos, run.workers, meter.advance)
        for record in records:
            # Only here: the journal, which is ASCII, keeps the names as they are, so that no two become one.
            told = record | {"file": readable(record["file"])}
            report.add(told)
            writer.write(told)
    if journal:
        journal.remove()
    return report


@contextmanager
def _writer(run: PhotoRun) -> Iterator[Writer]:
    if run.out is None:
        with standard_output() as stdout:
            _take_every_name(stdout, run.format)
            writer = photo_writer(run.format, stdout, None)
            yield writer
            writer.close()
        return
    draft = draft_of(run.out)
    try:
        with draft.open("w", newline="", encoding="utf-8") as stream:
            writer = photo_writer(run.format, stream, draft)
            yield writer
            writer.close()
            # On the disk before the journal goes: without power, a file's new name can outlive its contents.
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, run.out)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def standard_output() -> Iterator[TextIO]:
    """Written to the end of it, so that what fails is told; raises ReaderGoneError where nobody reads it."""
    if sys.stdout is None:
        raise SourceError("there is no standard output to write to")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError as error:
        # The program's end would try to write what is left again, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise ReaderGoneError from error


def _take_every_name(stream: TextIO, kind: PhotoFormat) -> None:
    """Let a file's name that the locale has no letters for not end the run: programs are told in UTF-8."""
    if isinstance(stream, TextIOWrapper):
        if kind == "table":
            stream.reconfigure(errors="backslashreplace")
        else:
            stream.reconfigure(encoding="utf-8")
