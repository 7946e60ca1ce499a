"""Photos and films in folders or object storage, as files that every node of a cluster can open."""

import os
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import PurePosixPath

from pyarrow import ArrowInvalid
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType

from service.media.errors import SourceError
from service.media.records import readable
from service.media.sources import common_folder, find_files


@dataclass(frozen=True, slots=True)
class Place:
    """A file system, and a path in it. prefix: what makes a path a URI again; empty for local paths."""

    filesystem: FileSystem
    path: str
    prefix: str

    @classmethod
    def of(cls, text: str) -> "Place":
        """A URI (`s3://bucket/photos`, `gs://...`) or a local path. Raises SourceError."""
        scheme, separator, _ = text.partition("://")
        try:
            filesystem, path = FileSystem.from_uri(text if separator else os.path.abspath(text))
        except (ArrowInvalid, OSError, UnicodeError) as error:
            raise SourceError(f"{readable(text)}: {error}") from error
        return cls(filesystem, path, f"{scheme}://" if separator else "")

    def __str__(self) -> str:
        return self.prefix + self.path

    def below(self, name: str) -> str:
        """The path of a file in this folder."""
        return f"{self.path.rstrip('/')}/{name}"


@dataclass(frozen=True, slots=True)
class Files:
    """Files of one file system, by path, with their sizes in bytes (None: there is no such file).

    root: the folder that all that was asked for is in.
    misnamed: those of them that are there, but under a name that is no UTF-8, which pyarrow cannot ask for.
    """

    place: Place
    sizes: dict[str, int | None]
    root: str
    misnamed: frozenset[str] = frozenset()

    def name(self, path: str) -> str:
        """What the output calls a file."""
        return self.place.prefix + path

    def refusal(self, path: str) -> str | None:
        """Why a file cannot even be opened."""
        if path in self.misnamed:
            return "its name is no UTF-8"
        return "no such file, or a folder that cannot be listed" if self.sizes[path] is None else None

    def below(self, path: str) -> str:
        """A file's path below the root: the same when more files have come to be there."""
        return path[len(self.root) :].lstrip("/")


def find(arguments: Sequence[str], recursive: bool, suffixes: AbstractSet[str], what: str) -> Files:
    """The files that paths, folders, glob patterns and URIs stand for, each once.

    Hidden files and, without `recursive`, folders in folders are left out. what: how an error calls one.
    Raises SourceError where there is none, or where they are in more than one file system.
    """
    remote = ["://" in argument for argument in arguments]
    if any(remote) and len(set(remote)) > 1:
        raise SourceError("local paths and URIs cannot be mixed in one run")
    if not remote[0]:
        found = find_files(arguments, recursive, suffixes, what)
        return _sized(Place.of("/"), [os.path.abspath(path) for path in found], common_folder(arguments))
    places = [Place.of(argument) for argument in arguments]
    if any(place.filesystem != places[0].filesystem for place in places):
        raise SourceError("everything that a run reads must be in one file system")
    sizes: dict[str, int | None] = {}
    for argument, place in zip(arguments, places, strict=True):
        listed = _listed(place, recursive, suffixes)
        if not listed:
            raise SourceError(f"no {what} in {argument}" + ("" if recursive else " (see --recursive)"))
        sizes |= listed
    # A place that is itself among what was found is a file.
    folders = [os.path.dirname(one.path) if one.path in sizes else one.path for one in places]
    return Files(places[0], sizes, os.path.commonpath(folders))


def _listed(place: Place, recursive: bool, suffixes: AbstractSet[str]) -> dict[str, int | None]:
    info = place.filesystem.get_file_info(place.path)
    if info.type != FileType.Directory:
        return {info.path: _size(info)}
    inside = place.filesystem.get_file_info(FileSelector(place.path, recursive=recursive))
    root = PurePosixPath(place.path)
    try:
        sizes = {one.path: _size(one) for one in inside if one.type == FileType.File}
    except UnicodeError as error:
        raise SourceError(f"{place}: a name in it is no UTF-8: hand it in as a path, not as a URI") from error
    return {
        path: sizes[path]
        for path in sorted(sizes)
        if _wanted(PurePosixPath(path).relative_to(root), suffixes)
    }


def _wanted(path: PurePosixPath, suffixes: AbstractSet[str]) -> bool:
    return path.suffix.lower() in suffixes and not any(part.startswith(".") for part in path.parts)


def _sized(place: Place, paths: list[str], root: str) -> Files:
    named = [path for path in paths if readable(path) == path]
    misnamed = frozenset(readable(path) for path in paths if readable(path) != path)
    infos = place.filesystem.get_file_info(named)
    sizes = {path: _size(info) for path, info in zip(named, infos, strict=True)}
    return Files(place, sizes | dict.fromkeys(misnamed), root, misnamed)


def _size(info: FileInfo) -> int | None:
    return int(info.size) if info.type == FileType.File else None
