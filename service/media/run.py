"""Many photos through an analyzer: in order, past bad files, with a few in memory at a time."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from service.media.analyzers import Analyzer
from service.media.errors import MediaError, RefusedError, SourceError
from service.media.journal import Journal, Stamp, stamp_of
from service.media.overwriting import inode
from service.media.parallel import in_order
from service.media.records import Record, failed_record, photo_record
from service.vision.draw import annotate, encode
from service.vision.errors import ImageError
from service.vision.image import decode
from service.vision.types import Analysis

MAX_FILE_BYTES = 200_000_000
_LISTED_FAILURES = 50
_LONGEST_JPEG_SIDE = 65_500  # libjpeg's


@dataclass(slots=True)
class Report:
    """What a run did. failures: the first so many, as (file, reason); failed counts all."""

    photos: int = 0
    faces: int = 0
    failed: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Count a photo in; one that was analyzed but could not be annotated has failed, too."""
        self.photos += 1
        self.faces += len(record.get("faces", ()))
        reason = record.get("error") or record.get("not_annotated")
        if reason is None:
            return
        self.failed += 1
        if len(self.failures) < _LISTED_FAILURES:
            self.failures.append((record["file"], reason))


@dataclass(frozen=True, slots=True)
class Annotations:
    """Where annotated pictures go: the photos' folders below `root` again, below `folder`."""

    folder: Path
    root: Path

    @classmethod
    def beside(cls, folder: Path, photos: Sequence[Path], root: str) -> "Annotations":
        """Annotations of these photos, which are all somewhere in `root`.

        Raises SourceError where a picture would take the place of a photo, or of another photo's picture.
        """
        places = Annotations(folder, Path(root))
        originals = {inode(photo) for photo in photos} - {None}
        taken: dict[Path, Path] = {}
        for photo in photos:
            target = places.of(photo)
            if inode(target) in originals:
                raise SourceError(
                    f"annotated pictures in {folder} would overwrite the photos: choose another folder"
                )
            other = taken.setdefault(target, photo)
            if inode(other) != inode(photo):
                raise SourceError(f"{other} and {photo} would both be annotated as {target}: rename one")
        return places

    def of(self, photo: Path) -> Path:
        """The annotated picture's path; always JPEG, so another suffix gets `.jpg` behind it."""
        # `Path.absolute` keeps `..`, which would lead out of the folder again.
        below = Path(os.path.abspath(photo)).relative_to(self.root)
        if below.suffix.lower() not in (".jpg", ".jpeg"):
            below = below.with_name(below.name + ".jpg")
        return Path(os.path.realpath(self.folder), below)

    def write(self, photo: Path, data: bytes, analysis: Analysis) -> str | None:
        """Draw one photo's faces; the reason where no file can hold the picture.

        Raises OSError where it cannot be written.
        """
        if max(analysis.width, analysis.height) > _LONGEST_JPEG_SIDE:
            return f"not annotated: a JPEG has at most {_LONGEST_JPEG_SIDE} pixels a side"
        # Whoever analyzed it, perhaps a server, has its own limit and kept to it.
        whole = decode(data, max_pixels=sys.maxsize, min_face_size=lambda _width, _height: 1.0)
        target = self.of(photo)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(encode(annotate(whole.pixels, analysis.faces), "jpeg"))
        return None


class PhotoWork:
    """Turns a path into a record; safe to call from several threads at once.

    Only what makes the whole run pointless is raised: a server that is gone.
    """

    def __init__(self, analyzer: Analyzer, annotations: Annotations | None) -> None:
        self._analyzer, self._annotations = analyzer, annotations

    def __call__(self, path: Path) -> tuple[Record, Stamp | None]:
        """The photo's record, and the stamp of the file as it was before it was read."""
        stamp = stamp_of(path)
        return guarded(str(path), lambda: self._analyze(path)), stamp

    def _analyze(self, path: Path) -> Record:
        data = _read(path)
        analysis = self._analyzer.photo(data)
        record = photo_record(str(path), analysis, self._analyzer.model)
        if self._annotations and (reason := self._annotations.write(path, data, analysis)):
            record["not_annotated"] = reason
        return record


def guarded(file: str, work: Callable[[], Record]) -> Record:
    """The record that `work` makes of a photo, or that of its failure.

    Raises MediaError for what makes the whole run pointless.
    """
    try:
        return work()
    except OSError as error:
        reason = error.strerror or str(error)
    except (ImageError, RefusedError) as error:
        reason = str(error)
    except MediaError:
        raise
    except Exception as error:  # one photo that meets a fault must not cost the other ten thousand
        reason = f"{type(error).__name__}: {error}"
    return failed_record(file, reason)


def analyze_all(
    work: PhotoWork, photos: Sequence[Path], workers: int, tell: Callable[[], None]
) -> Iterator[Record]:
    """The records of these photos, in their order. tell: called for each photo that is done."""
    with closing(in_order(work, photos, workers)) as results:
        for record, _ in results:
            tell()
            yield record


def analyze_on(
    work: PhotoWork, photos: Sequence[Path], workers: int, journal: Journal, tell: Callable[[], None]
) -> Iterator[Record]:
    """The same, going on from what the journal holds, and yielding only once all are done.

    tell: called for each photo that is done, those of earlier runs included. Whatever stops this leaves the
    journal as far as it got.
    """
    rest = []
    for photo in photos:
        if journal.done(str(photo), stamp_of(photo)):
            tell()
        else:
            rest.append(photo)
    with closing(in_order(work, rest, workers)) as results:
        for record, stamp in results:
            journal.append(record, stamp)
            tell()
    yield from journal.records([str(photo) for photo in photos])


def _read(path: Path) -> bytes:
    if path.is_dir():
        os.listdir(path)  # raises what kept its photos out of the list
    if path.exists() and not path.is_file():
        raise OSError("not a file")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise OSError(f"larger than {MAX_FILE_BYTES} bytes")
    return path.read_bytes()
