"""No output takes the place of what is read, or of another output."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from service.media.errors import SourceError


def inode(path: Path) -> tuple[int, int] | None:
    """Which file it is, by whatever name or link; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def behind_links(path: Path) -> Path:
    """The file that an output which takes its place in one step belongs at: a link stays a link to it."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def draft_of(path: Path) -> Path:
    """Where an output that takes its place in one step is written first."""
    return path.with_name(f".{path.name}.part")


def refuse_replacing(option: str, path: Path | None) -> None:
    """Raise SourceError where the output, which takes its place in one step, would do away with a device.

    Raises OSError where its draft's name is longer than the file system takes.
    """
    if path is None:
        return
    draft = draft_of(behind_links(path))
    for place in (path, draft):
        if place.exists() and not place.is_file():
            raise SourceError(f"{option}: {place} is no regular file, and would be replaced by one")
    with suppress(FileNotFoundError, NotADirectoryError):
        draft.lstat()  # from Python 3.14 on, `exists` raises nothing


def refuse_overwriting(outputs: Mapping[str, Path | None], inputs: Iterable[Path]) -> None:
    """Raise SourceError where an output, named by its option, is an input, another output, or a folder."""
    read = {inode(path) for path in inputs} - {None}
    taken: dict[str, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        if path.is_dir():
            raise SourceError(f"{option}: {path} is a folder")
        if inode(path) in read:
            raise SourceError(f"{option}: {path} is read in this run: choose another name")
        other = taken.setdefault(
            os.path.realpath(path), option
        )  # `Path.resolve` raises where links go in circles
        if other != option:
            raise SourceError(f"{other} and {option} are both {path}: choose another name")
