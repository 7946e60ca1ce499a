"""What `analyze` is told to look at -> the photos themselves, in a settled order."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from service.media.errors import SourceError

# In a folder only these count; a file that is named outright is always tried.
PHOTO_SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif",
        ".heic", ".heif", ".hif", ".avif",
    }
)  # fmt: skip


def find_photos(arguments: Sequence[str], recursive: bool, exclude: Path | None = None) -> list[Path]:
    """The photos that files, folders (sorted, without hidden files) and glob patterns stand for, each once.

    recursive: look into folders of folders too. exclude: a folder to leave out, such as the one that
    annotated pictures go to. A named file that is missing stays in the list, so that the run reports it.
    Raises SourceError for a pattern or a folder that holds no photo.
    """
    found: dict[Path, None] = {}
    for argument in arguments:
        photos = [path for path in _expand(argument, recursive) if not _inside(path, exclude)]
        if not photos:
            raise SourceError(f"no photo in {argument}" + ("" if recursive else " (see --recursive)"))
        found.update(dict.fromkeys(photos))
    return list(found)


def _expand(argument: str, recursive: bool) -> Iterator[Path]:
    path = Path(argument)
    if path.is_dir():
        yield from _in_folder(path, recursive)
    elif glob.has_magic(argument) and not path.exists():
        for match in sorted(glob.glob(argument, recursive=True)):
            yield from _in_folder(Path(match), recursive) if os.path.isdir(match) else [Path(match)]
    else:
        yield path


def _in_folder(folder: Path, recursive: bool) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in PHOTO_SUFFIXES:
                yield Path(parent, name)


def _inside(path: Path, folder: Path | None) -> bool:
    return folder is not None and path.resolve().is_relative_to(folder.resolve())
