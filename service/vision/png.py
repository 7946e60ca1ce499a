"""A PNG without what no decoder needs for its picture, and whether it has all of it."""

import struct
import zlib
from collections.abc import Iterator

from service.vision.errors import InvalidImageError, check_pixels
from service.vision.tiff import exif_orientation
from service.vision.types import Header

_MAX_CHUNKS = 50_000  # far above what encoders write: 20 MB in chunks of 4 kB
_KEPT = frozenset({b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by kind of colour
_PIECE, _INFLATED = 1 << 16, 1 << 20  # bytes at a time, before and after
# Where each part begins, and how far apart its pixels are.
_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


def png_header(data: bytes, max_pixels: int) -> Header:
    """Of the still picture, which is there in an animation too."""
    length, kind, width, height = struct.unpack_from(">I4sII", data, 8)
    if kind != b"IHDR" or length != 13:
        raise InvalidImageError("the PNG image does not start with its header")
    check_pixels(width, height, max_pixels)
    view = memoryview(data)
    kept = [view[:33]]
    exif = b""
    for kind, start, end in _chunks(data, 33):
        if kind in _KEPT:
            kept.append(view[start:end])
        elif kind == b"eXIf":
            exif = exif or data[start + 8 : end - 4]
    return Header("png", (width, height), b"".join(kept), exif_orientation(exif), bits=data[24])


def _chunks(data: bytes, pos: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start, end) of each chunk, IEND the last."""
    for _ in range(_MAX_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, pos)
        end = pos + 12 + length
        if end > len(data):
            raise InvalidImageError("the PNG image is cut short")
        yield kind, pos, end
        if kind == b"IEND":
            return
        pos = end
    raise InvalidImageError(f"the PNG image has more than {_MAX_CHUNKS} chunks")


def png_is_whole(body: bytes) -> bool:
    """Whether its compressed data, which may end early without any fault, has all rows of its pixels."""
    missing = sum(_lengths(body))
    inflater = zlib.decompressobj()
    for piece in _compressed(body):
        while piece and missing > 0:
            missing -= len(inflater.decompress(piece, _INFLATED))
            piece = inflater.unconsumed_tail  # noqa: PLW2901
    return missing <= 0 or missing <= len(inflater.flush())


def _compressed(body: bytes) -> Iterator[bytes]:
    """The compressed data, in pieces: the inflater copies what it leaves of one each time."""
    for kind, start, end in _chunks(body, 33):
        if kind == b"IDAT":
            for at in range(start + 8, end - 4, _PIECE):
                yield body[at : min(at + _PIECE, end - 4)]


def _lengths(body: bytes) -> Iterator[int]:
    """Bytes of each pass: of the picture, or of the seven parts of an interlaced one."""
    width, height, bits, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", body, 16)
    for left, top, across, down in _ADAM7 if interlaced else [(0, 0, 1, 1)]:
        columns, rows = -((left - width) // across), -((top - height) // down)
        if columns > 0:
            yield rows * (1 + -(-columns * bits * _SAMPLES[colour] // 8))
