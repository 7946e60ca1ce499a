"""The first picture of a WebP file, taken out of its container without decoding it.

Of an animation the decoder libraries would keep three canvases; of a still they would copy metadata.
"""

import struct
from collections.abc import Iterator

from service.vision.errors import InvalidImageError
from service.vision.tiff import exif_orientation
from service.vision.types import Header

Size = tuple[int, int]
Span = tuple[int, int]  # start and end
Chunk = tuple[bytes, Span]

# Far above what encoders write: an animation has one for each frame.
_MAX_CHUNKS = 20_000
_ALPHA = 0x10
_VP8_START_CODE = b"\x9d\x01\x2a"
_VP8L_SIGNATURE = 0x2F


def webp_header(data: bytes, _max_pixels: int) -> Header:
    """Its body is the first frame as a WebP file of its own."""
    (length,) = struct.unpack_from("<I", data, 4)
    if length + 8 > len(data):
        raise InvalidImageError("the WebP image is cut short")
    chunks = list(_chunks(data, (12, length + 8)))
    named = dict(reversed(chunks))
    offset, frame = (0, 0), chunks
    if b"ANMF" in named:
        start, end = named[b"ANMF"]
        offset = 2 * _int24(data, start), 2 * _int24(data, start + 3)
        frame = list(_chunks(data, (start + 16, end)))
    size, body = _still(data, frame)
    canvas = _canvas(data, named[b"VP8X"]) if b"VP8X" in named else size
    if any(at + side > most for at, side, most in zip(offset, size, canvas, strict=True)):
        raise InvalidImageError("the WebP image is larger than its canvas")
    exif = data[slice(*named.get(b"EXIF", (0, 0)))]
    return Header("webp", canvas, body, exif_orientation(exif), offset=offset)


def _chunks(data: bytes, span: Span) -> Iterator[Chunk]:
    """Yield each chunk's kind and where its content lies."""
    pos, stop = span
    for _ in range(_MAX_CHUNKS):
        if pos + 8 > stop:
            return
        kind, length = struct.unpack_from("<4sI", data, pos)
        start, pos = pos + 8, pos + 8 + length + length % 2
        if start + length > stop:
            raise InvalidImageError("the WebP image's chunks do not fit into each other")
        yield kind, (start, start + length)
    raise InvalidImageError(f"the WebP image has more than {_MAX_CHUNKS} chunks")


def _still(data: bytes, chunks: list[Chunk]) -> tuple[Size, bytes]:
    """Size and file of the one picture that these chunks are."""
    parts: list[bytes] = []
    for kind, (start, end) in chunks:
        if kind not in (b"ALPH", b"VP8 ", b"VP8L"):
            continue
        parts.append(data[start - 8 : end + (end - start) % 2])
        if kind != b"ALPH":
            size = _vp8_size(data, start) if kind == b"VP8 " else _vp8l_size(data, start)
            head = [_extended(size)] if len(parts) > 1 else []
            content = b"".join([b"WEBP", *head, *parts])
            return size, b"RIFF" + struct.pack("<I", len(content)) + content
    raise InvalidImageError("the WebP image holds no picture")


def _extended(size: Size) -> bytes:
    sides = b"".join((side - 1).to_bytes(3, "little") for side in size)
    return b"VP8X" + struct.pack("<II", 10, _ALPHA) + sides


def _canvas(data: bytes, span: Span) -> Size:
    return _int24(data, span[0] + 4) + 1, _int24(data, span[0] + 7) + 1


def _vp8_size(data: bytes, start: int) -> Size:
    width, height = struct.unpack_from("<HH", data, start + 6)
    width, height = width & 0x3FFF, height & 0x3FFF
    if data[start + 3 : start + 6] != _VP8_START_CODE or not (width and height):
        raise InvalidImageError("the WebP image is damaged")
    return width, height


def _vp8l_size(data: bytes, start: int) -> Size:
    signature, packed = struct.unpack_from("<BI", data, start)
    if signature != _VP8L_SIGNATURE:
        raise InvalidImageError("the WebP image is damaged")
    return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1


def _int24(data: bytes, pos: int) -> int:
    low, high = struct.unpack_from("<HB", data, pos)
    return int(low) | int(high) << 16
