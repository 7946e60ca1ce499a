"""HEIF and AVIF: how large the pictures in a file claim to be, and the file without what no decoder needs.

The container states sizes, and so does the AV1 data inside. libheif holds the second to the first; the AVIF
decoder does not, and would decode a picture of 268 megapixels out of a container that says 10 x 10.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from itertools import islice

from service.vision.errors import InvalidImageError
from service.vision.types import Header

Size = tuple[int, int]
Span = tuple[int, int]  # start and end
Reference = tuple[bytes, int, int]  # kind, where the content starts, the bytes of an item's number

# Far above what encoders write: a grid of tiles has a few hundred items of three units each.
_MAX_BOXES = 256
_MAX_ITEMS = 4_096
_MAX_UNITS = 10_000
_MAX_METADATA = 8
# One more than the longest honest chain: a tone-mapped picture of a grid, with a grid of alpha.
_MAX_CHAIN = 4

_SIZE_PROPERTY = re.compile(rb"ispe\0{4}(.{8})", re.DOTALL)
# The declaration of a metadata item, versions 2 and 3 of the box: the item's type is last.
_EXIF_ITEM = re.compile(rb"(infe\x02.{3}.{4}|infe\x03.{3}.{6})Exif", re.DOTALL)
# That of a picture made of another one, a mask, or bare samples.
_ODD_ITEM = re.compile(rb"infe(\x02.{3}.{4}|\x03.{3}.{6})(iden|iovl|tili|mski|unci)", re.DOTALL)
_SEQUENCE_HEADER = 1
_MAX_SEQUENCE_HEADER = 1_024  # bytes: 32 operating points and all options


def heif_header(data: bytes, _max_pixels: int) -> Header:
    """Of the largest size that any part claims; the decoder library finds the orientation."""
    size = _heif_size(data)
    _check_kinds(data)
    references = list(islice(_references(data), _MAX_ITEMS + 1))
    _check_count(len(references), _MAX_ITEMS)
    _check_chains(data, references)
    return Header("heif", size, _heif_lean(data, references), orientation=None)


def avif_header(data: bytes, _max_pixels: int) -> Header:
    """As of HEIF."""
    return Header("avif", _avif_size(data), _avif_still(data), orientation=None)


def _check_kinds(data: bytes) -> None:
    """Refuse what no camera writes, and libheif before 1.23.3 writes beyond its memory with."""
    if any(_ODD_ITEM.search(data, *box) for kind, box in _boxes(data, (0, len(data))) if kind == b"meta"):
        raise InvalidImageError("HEIF images made of others, other than as a grid, are not supported")


def _check_chains(data: bytes, references: Iterable[Reference]) -> None:
    """Refuse pictures that need each other in a circle: libheif before 1.23.3 waits for itself, for ever."""
    needs: dict[int, set[int]] = {}
    total = 0
    for kind, content, wide in references:
        if kind in (b"dimg", b"auxl"):  # a picture needs its parts, and what is auxiliary to it
            fields = _Fields(data, content)
            item, count = fields.take(wide), fields.take(2)
            total = _check_count(total + count, _MAX_ITEMS)
            others = {fields.take(wide) for _ in range(count)}
            for one, other in ((item, other) if kind == b"dimg" else (other, item) for other in others):
                needs.setdefault(one, set()).add(other)
    for _ in range(_MAX_CHAIN):
        needs = {item: left for item, others in needs.items() if (left := others & needs.keys())}
    if needs:
        raise InvalidImageError("the HEIF image is made of itself")


def _heif_size(data: bytes) -> Size:
    """The largest size that the container claims for any picture; (0, 0) if it claims none."""
    whole = (0, len(data))
    sizes = [size for kind, box in _boxes(data, whole) if kind == b"meta" for size in _sizes(data, box)]
    return max(sizes, key=_area, default=(0, 0))


def _heif_lean(data: bytes, references: Iterable[Reference]) -> bytes:
    """The same file with metadata attached to a few pictures only: the library copies it for each."""
    lean = bytearray(data)
    attached = 0
    for kind, content, wide in references:
        if kind == b"cdsc":
            attached += int.from_bytes(data[content + wide : content + wide + 2], "big")
        if kind == b"cdsc" and attached > _MAX_METADATA:
            lean[content - 4 : content] = b"skip"
    return bytes(lean)


def _references(data: bytes) -> Iterator[Reference]:
    """Yield each box that tells which items belong together."""
    for kind, (start, stop) in _boxes(data, (0, len(data))):
        for name, (first, end) in _boxes(data, (start + 4, stop)) if kind == b"meta" else ():
            if name == b"iref":
                wide = 4 if data[first] else 2
                yield from ((link, content, wide) for link, (content, _) in _boxes(data, (first + 4, end)))


def _avif_size(data: bytes) -> Size:
    """The largest size that the container or the AV1 data claims for any picture."""
    meta = _child(data, (0, len(data)), b"meta")
    sizes = _sizes(data, meta)
    for kind, start in _units(data, _items(data, (meta[0] + 4, meta[1]))):
        if kind == _SEQUENCE_HEADER:
            sizes.append(_sequence_size(_Bits(data[start : start + _MAX_SEQUENCE_HEADER])))
    return max(sizes, key=_area, default=(0, 0))


def _avif_still(data: bytes) -> bytes:
    """The same file without its EXIF and its animation, which is a second copy of the first frame and more.

    The container's own rotation is the one that counts, by the standard.
    """
    parts = []
    end = 0
    for kind, (start, stop) in _boxes(data, (0, len(data))):
        head, content = data[end:start], data[start:stop]
        if kind == b"ftyp":
            content = content.replace(b"avis", b"avif")
        elif kind == b"meta":
            content = _EXIF_ITEM.sub(rb"\1skip", content)
        elif kind == b"moov":
            head = head.replace(b"moov", b"free")
        parts += [head, content]
        end = stop
    return b"".join(parts)


def _area(size: Size) -> int:
    return size[0] * size[1]


def _sizes(data: bytes, meta: Span) -> list[Size]:
    found = list(islice(_SIZE_PROPERTY.finditer(data, *meta), _MAX_ITEMS + 1))
    _check_count(len(found), _MAX_ITEMS)
    return [struct.unpack(">II", match[1]) for match in found]


# --- Boxes --------------------------------------------------------------------------------------------


def _boxes(data: bytes, span: Span) -> Iterator[tuple[bytes, Span]]:
    """Yield each box's kind and where its content lies."""
    pos, end = span
    for _ in range(_MAX_BOXES):
        if pos + 8 > end:
            return
        length, kind = struct.unpack_from(">I4s", data, pos)
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, pos + 8)
            head = 16
        stop = pos + length if length else end  # 0: all the rest
        if not pos + head <= stop <= end:
            raise InvalidImageError("the image's boxes do not fit into each other")
        yield kind, (pos + head, stop)
        pos = stop
    raise InvalidImageError(f"the image has more than {_MAX_BOXES} boxes")


def _child(data: bytes, span: Span, wanted: bytes) -> Span:
    for kind, content in _boxes(data, span):
        if kind == wanted:
            return content
    raise InvalidImageError("the image does not describe what it contains")


def _items(data: bytes, meta: Span) -> Iterator[Span]:
    """Where each item's data lies, from the iloc box."""
    pos, _ = _child(data, meta, b"iloc")
    version, sizes, more_sizes = data[pos], data[pos + 4], data[pos + 5]
    # Offsets count from the start of the file or, by method 1, of the idat box.
    origins = (0, dict(_boxes(data, meta)).get(b"idat", (0, 0))[0])
    fields = _Fields(data, pos + 6)
    wide = 4 if version == 2 else 2
    for _ in range(_check_count(fields.take(wide), _MAX_ITEMS)):
        fields.take(wide)
        method = fields.take(2) & 15 if version else 0
        fields.take(2)
        base = fields.take(more_sizes >> 4)
        if method > 1:
            raise InvalidImageError("AVIF images made of pieces are not supported")
        for _ in range(_check_count(fields.take(2), 1)):
            fields.take(more_sizes & 15 if version else 0)
            start = origins[method] + base + fields.take(sizes >> 4)
            length = fields.take(sizes & 15)
            yield start, min(start + length, len(data)) if length else len(data)


def _check_count(count: int, limit: int) -> int:
    if count > limit:
        raise InvalidImageError("images made of so many pieces are not supported")
    return count


class _Fields:
    """Big-endian integers of any number of bytes, one after the other."""

    def __init__(self, data: bytes, pos: int) -> None:
        self._data, self._pos = data, pos

    def take(self, length: int) -> int:
        field = self._data[self._pos : self._pos + length]
        self._pos += length
        if len(field) < length:
            raise InvalidImageError("the image is cut short")
        return int.from_bytes(field, "big")


# --- AV1 ----------------------------------------------------------------------------------------------


def _units(data: bytes, spans: Iterable[Span]) -> Iterator[tuple[int, int]]:
    """Yield the kind of each AV1 unit (OBU) and where its payload starts.

    Items that are no AV1 pictures yield nonsense or nothing, which does no harm.
    """
    budget = iter(range(_MAX_UNITS))
    for first, end in spans:
        pos = first
        while pos < end:
            if next(budget, None) is None:
                raise InvalidImageError(f"the AVIF image has more than {_MAX_UNITS} parts")
            head = data[pos]
            start = pos + (2 if head & 4 else 1)
            length = end - start
            if head & 2:
                start, length = _leb128(data, start)
            yield head >> 3 & 15, start
            pos = start + length


def _leb128(data: bytes, pos: int) -> tuple[int, int]:
    """The position after a variable-length integer, and its value."""
    value = 0
    for index, byte in enumerate(data[pos : pos + 8]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return pos + index + 1, value
    raise InvalidImageError("the AVIF image is damaged")


class _Bits:
    """Unsigned integers of any number of bits, one after the other; zeros beyond the end."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        shift = self._left
        return (self._value >> shift if shift >= 0 else self._value << -shift) & (1 << count) - 1


def _sequence_size(bits: _Bits) -> Size:
    """The largest frame that a sequence header allows (AV1 specification, 5.5)."""
    bits.take(4)
    if bits.take(1):  # reduced_still_picture_header
        bits.take(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1


def _skip_operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits.take(1):  # timing_info
        bits.take(64)
        if bits.take(1):  # equal_picture_interval
            _skip_uvlc(bits)
        if bits.take(1):  # decoder_model_info
            delay_bits = bits.take(5) + 1
            bits.take(42)
    display_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:  # seq_level_idx, the higher ones with a tier
            bits.take(1)
        if delay_bits and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if display_delay and bits.take(1):
            bits.take(4)


def _skip_uvlc(bits: _Bits) -> None:
    zeros = 0
    while zeros < 32 and not bits.take(1):
        zeros += 1
    if zeros < 32:
        bits.take(zeros)
