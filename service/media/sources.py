"""What `analyze` is told to look at -> the photos themselves, in a settled order."""

import glob
import os
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from service.media.errors import SourceError

# In a folder only these count; a file that is named outright is always tried.
PHOTO_SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif",
        ".heic", ".heif", ".hif", ".avif",
    }
)  # fmt: skip
FILM_SUFFIXES = frozenset(
    {
        ".3gp", ".asf", ".avi", ".flv", ".m2t", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg",
        ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv",
    }
)  # fmt: skip


def find_photos(arguments: Sequence[str], recursive: bool, exclude: Path | None = None) -> list[Path]:
    """The photos that files, folders (sorted, without hidden files) and glob patterns stand for, each once.

    recursive: look into folders of folders too. exclude: a folder that is not looked into, such as the one
    that annotated pictures go to. A named file that is missing stays in the list, so that the run reports it,
    and so does a folder that cannot be listed.
    Raises SourceError for a pattern or a folder that holds no photo.
    """
    return find_files(arguments, recursive, PHOTO_SUFFIXES, "photo", exclude)


def find_files(
    arguments: Sequence[str],
    recursive: bool,
    suffixes: AbstractSet[str],
    what: str,
    exclude: Path | None = None,
) -> list[Path]:
    """The files of these suffixes; what: how an error calls one. See `find_photos`."""
    # As named, by where they are: a folder may be named twice, from here and from the root.
    found: dict[Path, Path] = {}
    for argument in arguments:
        files = list(_expand(argument, recursive, suffixes, exclude))
        if not files:
            told = argument or repr(argument)
            raise SourceError(f"no {what} in {told}" + ("" if recursive else " (see --recursive)"))
        for file in files:
            found.setdefault(file.absolute(), file)
    return list(found.values())


def common_folder(arguments: Sequence[str]) -> str:
    """The folder that all these arguments are in, or look into: the same when more is in it another time."""
    return os.path.commonpath([os.path.abspath(_searched(argument)) for argument in arguments])


def _searched(argument: str) -> Path:
    path = Path(argument)
    if path.is_dir():
        return path
    return path.parent if path.exists() else _before_magic(path)


def _expand(
    argument: str, recursive: bool, suffixes: AbstractSet[str], exclude: Path | None
) -> Iterator[Path]:
    path = Path(argument)
    if not argument:  # as a variable that is not set; to `Path`, the current folder
        return
    if path.is_dir():
        found = _in_folder(path, recursive, suffixes)
    elif glob.has_magic(argument) and not path.exists():
        found = _matches(argument, recursive, suffixes)
    else:
        yield path
        return
    searched = _searched(argument)
    # The folder to leave out matters where it is met on the way, not where everything is inside.
    met = exclude is not None and _inside(exclude, searched) and not _inside(searched, exclude)
    yield from (one for one in found if not (met and exclude and _inside(one, exclude)))


def _matches(pattern: str, recursive: bool, suffixes: AbstractSet[str]) -> Iterator[Path]:
    for match in map(Path, sorted(glob.glob(pattern, recursive=True))):
        yield from _in_folder(match, recursive, suffixes) if match.is_dir() else [match]


def _before_magic(pattern: Path) -> Path:
    before = next(parent for parent in pattern.parents if not glob.has_magic(str(parent)))
    # Behind a pattern, each of them may lead out of what stands before it.
    return before.joinpath(*(part for part in pattern.parts[len(before.parts) :] if part == ".."))


def _in_folder(folder: Path, recursive: bool, suffixes: AbstractSet[str]) -> Iterator[Path]:
    unread: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=unread.append):
        folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                yield Path(parent, name)
    # As photos, so that the run reports them: what is in them would be missing without a word.
    yield from (Path(error.filename) for error in unread)


def _inside(path: Path, folder: Path) -> bool:
    # Not `Path.resolve`, which raises where links go in circles.
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
