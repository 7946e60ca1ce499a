"""The first page of a TIFF file, without what no decoder needs for it; and EXIF, which is a TIFF directory.

Tags are numbered as in TIFF 6.0.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from service.vision.errors import InvalidImageError
from service.vision.types import Header

_BYTE_ORDERS = {b"II": "<", b"MM": ">"}
_HEADER_LENGTH = 8
_SHORT = 3
# By a value's type: its bytes (BYTE, SHORT, LONG, RATIONAL, UNDEFINED), and struct's letter for an integer.
_TYPE_SIZES = {1: 1, 3: 2, 4: 4, 5: 8, 7: 1}
_INTEGERS = {1: "B", 3: "H", 4: "I"}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP, _STRIP_LENGTHS = 273, 274, 277, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_LENGTHS = 322, 323, 324, 325
_PLANAR, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 284, 338, 339
# For the decoder alone: FillOrder, T4Options, T6Options, Predictor and YCbCrPositioning; then ColorMap,
# JPEGTables, YCbCrCoefficients, YCbCrSubSampling and ReferenceBlackWhite.
_MORE_SCALARS, _MORE_TAGS = {266, 292, 293, 317, 531}, {320, 347, 529, 530, 532}
# Scalars first, then what may hold many values. Everything else (other pages, EXIF, ICC, XMP) is left out.
_SCALARS = frozenset({
    _WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP, _PLANAR,
    _TILE_WIDTH, _TILE_HEIGHT, *_MORE_SCALARS,
})  # fmt: skip
_TAGS = _SCALARS | {
    _BITS, _STRIP_OFFSETS, _STRIP_LENGTHS, _TILE_OFFSETS, _TILE_LENGTHS, _EXTRA_SAMPLES, _SAMPLE_FORMAT,
    *_MORE_TAGS,
}  # fmt: skip
# None, CCITT, LZW, JPEG, Deflate (twice), PackBits. Old-style JPEG (6) and the rare ones stay outside.
_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 7, 8, 32946, 32773})
_JPEG, _SIGNED, _LAB = 7, 2, 8  # values of Compression, SampleFormat and PhotometricInterpretation
# Pixels that tiles may have beyond four times the picture's.
_PADDING = 4_000_000


@dataclass(frozen=True, slots=True)
class _Tag:
    """One entry of a TIFF directory. first, last: these of its values, where they are integers."""

    entry: bytes
    count: int
    length: int
    first: int
    last: int


def tiff_header(data: bytes, _max_pixels: int) -> Header:
    """Of the first page; its body is the file with a directory that tells of nothing else."""
    order = _BYTE_ORDERS[data[:2]]
    tags = _known_tags(data, order)
    if _value(tags, _SAMPLES, 1) == 1:
        tags.pop(_PLANAR, None)  # Pillow would heed it, and read a negative or nothing
    width, height = _value(tags, _WIDTH, 0), _value(tags, _HEIGHT, 0)
    if _value(tags, _COMPRESSION, 1) not in _COMPRESSIONS:
        raise InvalidImageError("the TIFF image uses a compression that is not supported")
    if _value(tags, _BITS, 1) > 8 and _value(tags, _PHOTOMETRIC, 1) == 0:
        raise InvalidImageError("TIFF images of more than 8 bits in which zero is white are not supported")
    if _value(tags, _BITS, 1) > 16:
        raise InvalidImageError(
            "TIFF images of 32-bit samples are not supported: they do not say what is white"
        )
    if _value(tags, _SAMPLE_FORMAT, 1) == _SIGNED:
        raise InvalidImageError("TIFF images of signed samples are not supported")  # Pillow drops the sign
    if _planes(tags) > 1:
        _check_planes(tags)
    _check_layout(tags, width, height)
    if _value(tags, _COMPRESSION, 1) == _JPEG and not _last_jpeg_ends(data, tags):
        raise InvalidImageError("the TIFF image is cut short")  # the decoder would make up the rest
    orientation = _value(tags, _ORIENTATION, 1)
    return Header(
        "tiff",
        (width, height),
        _with_directory(data, order, tags),
        orientation if 1 <= orientation <= 8 else 1,
        bits=_value(tags, _BITS, 1),
    )


def _value(tags: Mapping[int, _Tag], number: int, default: int) -> int:
    return tags[number].first if number in tags else default


def _known_tags(data: bytes, order: str) -> dict[int, _Tag]:
    """The known tags of the first directory; of two with the same number the first."""
    (directory,) = struct.unpack_from(order + "I", data, 4)
    if directory < _HEADER_LENGTH:
        raise InvalidImageError("the TIFF image's directory lies in its header")
    (count,) = struct.unpack_from(order + "H", data, directory)
    tags: dict[int, _Tag] = {}
    for start in range(directory + 2, directory + 2 + 12 * count, 12):
        (number,) = struct.unpack_from(order + "H", data, start)
        if number in _TAGS and number not in tags:
            tags[number] = _tag(data, order, start)
    if sum(tag.length for tag in tags.values()) > len(data):
        raise InvalidImageError("the TIFF image has tags that overlap")
    return tags


def _tag(data: bytes, order: str, start: int) -> _Tag:
    number, kind, count = struct.unpack_from(order + "HHI", data, start)
    length = _TYPE_SIZES.get(kind, 0) * count
    value = start + 8
    if length > 4:
        (value,) = struct.unpack_from(order + "I", data, value)
    fits = 0 < length <= len(data) - value
    if not fits or (number in _SCALARS and (count != 1 or kind not in _INTEGERS)):
        raise InvalidImageError("the TIFF image has a damaged tag")
    first = last = 0
    if kind in _INTEGERS:
        first, last = (
            struct.unpack_from(order + _INTEGERS[kind], data, at)[0]
            for at in (value, value + length - _TYPE_SIZES[kind])
        )
    return _Tag(data[start : start + 12], count, length, first, last)


def _planes(tags: Mapping[int, _Tag]) -> int:
    """How many pictures of one sample each stand one after the other."""
    return _value(tags, _SAMPLES, 1) if _value(tags, _PLANAR, 1) == 2 else 1


def _check_planes(tags: Mapping[int, _Tag]) -> None:
    """Refuse what Pillow would read otherwise than it is meant."""
    if _value(tags, _BITS, 1) > 8 and _value(tags, _COMPRESSION, 1) == 1:
        # As if every second sample were another pixel.
        raise InvalidImageError("uncompressed TIFF images of more than 8 bits in planes are not supported")
    photometric = _value(tags, _PHOTOMETRIC, 1)
    if photometric == _LAB or (photometric == 1 and _value(tags, _EXTRA_SAMPLES, 0)):
        # Without a shift of the colors; with the alpha in the place of another color.
        raise InvalidImageError("TIFF images of Lab colors or of gray with alpha in planes are not supported")


def _check_layout(tags: Mapping[int, _Tag], width: int, height: int) -> None:
    """Refuse more strips or tiles than the picture has room for, or fewer, and tiles far larger than it."""
    if _TILE_OFFSETS in tags:
        wide, high = _value(tags, _TILE_WIDTH, 0), _value(tags, _TILE_HEIGHT, 0)
        count = tags[_TILE_OFFSETS].count
    else:
        wide, high = width, min(height, _value(tags, _ROWS_PER_STRIP, height))
        count = tags[_STRIP_OFFSETS].count if _STRIP_OFFSETS in tags else 0
    pieces = -(-width // max(1, wide)) * -(-height // max(1, high))
    padded = pieces * wide * high > 4 * width * height + _PADDING
    if not 0 < count == pieces * _planes(tags) or padded:
        raise InvalidImageError("the TIFF image's strips or tiles do not fit its size")


def _last_jpeg_ends(data: bytes, tags: Mapping[int, _Tag]) -> bool:
    """Whether the last strip or tile has its end mark, which padding may follow."""
    numbers = (_TILE_OFFSETS, _TILE_LENGTHS) if _TILE_OFFSETS in tags else (_STRIP_OFFSETS, _STRIP_LENGTHS)
    start, length = (tags[number].last if number in tags else 0 for number in numbers)
    return data.rfind(b"\xff\xd9", start, start + length) >= 0


def _with_directory(data: bytes, order: str, tags: Mapping[int, _Tag]) -> bytes:
    """The file with these tags alone in the place of its first directory; what they point at stays there.

    Nothing comes after its end: a strip that is cut short would go on in it.
    """
    (start,) = struct.unpack_from(order + "I", data, 4)
    kept = [tags[number].entry for number in sorted(tags) if number != _ORIENTATION]
    directory = b"".join([struct.pack(order + "H", len(kept)), *kept, bytes(4)])
    return b"".join([data[:start], directory, data[start + len(directory) :]])


def exif_orientation(exif: bytes) -> int:
    """Read the orientation, 1..8, from an EXIF block (with or without its `Exif` prefix).

    A block that is damaged or says nothing sensible counts as 1: it is no reason to refuse a picture.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = _BYTE_ORDERS.get(exif[:2])
    if order is None:
        return 1
    try:
        (offset,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, offset)
        for index in range(count):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, offset + 2 + 12 * index)
            if tag == _ORIENTATION:
                return value if kind == _SHORT and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
