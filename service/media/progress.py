"""The progress bar on standard error: done of all, rate, time left. Silent where nobody watches."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Rate(ProgressColumn):
    """How many a second, lately."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {self._unit}/s" if speed else f"- {self._unit}/s")


class Meter:
    """What a run tells its progress to."""

    def __init__(self, progress: Progress, total: float | None) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total)

    def advance(self, amount: float = 1) -> None:
        """So much more is done."""
        self._progress.advance(self._task, amount)


@contextmanager
def counting(total: int, unit: str) -> Iterator[Meter]:
    """A bar that counts whole things."""
    columns = (MofNCompleteColumn(), _Rate(unit), TextColumn("ETA"), TimeRemainingColumn())
    with _shown(BarColumn(), *columns) as progress:
        yield Meter(progress, total)


@contextmanager
def playing(seconds: float | None) -> Iterator[Meter]:
    """A bar over the seconds of a programme, whose length may be unknown; the rate is its speed of play."""
    columns = (TaskProgressColumn(), _Rate("s"), TextColumn("ETA"), TimeRemainingColumn())
    with _shown(BarColumn(), *columns, TimeElapsedColumn()) as progress:
        yield Meter(progress, seconds)


def _shown(*columns: ProgressColumn) -> Progress:
    # Rich writes what goes to standard output above its bar, on the terminal, wherever it was to go.
    return Progress(
        *columns,
        console=Console(stderr=True),
        disable=not _watched(sys.stderr),
        redirect_stdout=_watched(sys.stdout),
    )


def _watched(stream: TextIO | None) -> bool:
    """Whether it is a terminal; a program that was started without one has None."""
    return stream is not None and stream.isatty()
