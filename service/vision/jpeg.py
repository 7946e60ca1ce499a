"""A JPEG without what no decoder needs for its picture, told by its markers (ITU-T T.81, annex B)."""

import re
import struct
from collections.abc import Iterator

from service.vision.errors import InvalidImageError, check_pixels
from service.vision.tiff import exif_orientation
from service.vision.types import Header

# Far above what encoders write: 20 MB in segments of 64 kB.
_MAX_SEGMENTS = 2_000
_MAX_SCANS = 32
_EOI, _SOS, _APP0, _APP1, _APP14 = 0xD9, 0xDA, 0xE0, 0xE1, 0xEE
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TABLES = frozenset({0xC4, 0xDB, 0xDD})
_PROGRESSIVE = 0xC2
_SUPPORTED = frozenset({0xC0, 0xC1, _PROGRESSIVE})
# A marker with a segment of its own, or EOI. Entropy-coded data holds only 0xFF00 and restarts (0xFFD0..7).
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


def jpeg_header(data: bytes, max_pixels: int) -> Header:
    """Of the picture up to its end; what comes after its first scan is handed on as it is."""
    view = memoryview(data)
    kept: list[memoryview] = []
    frame = orientation = None
    width = height = 0
    for marker, start, end in _segments(data, 2):
        if marker in _FRAMES:
            if frame is not None:
                raise InvalidImageError("the JPEG image has more than one frame header")
            frame = start
            _check_kind(marker, data[frame + 4])
            height, width = struct.unpack_from(">HH", data, frame + 5)
            check_pixels(width, height, max_pixels)
        elif marker == _APP1 and orientation is None and data.startswith(b"Exif\0\0", start + 4):
            orientation = exif_orientation(data[start + 4 : end])
        if _shapes_pixels(data, marker, start):
            kept.append(view[start:end])
        if marker == _SOS and frame is not None:
            scans = _scans(data, frame, start, end)
            if scans > _MAX_SCANS:
                raise InvalidImageError(f"the JPEG image has more than {_MAX_SCANS} scans")
            plain = (_unremarkable(bytes(segment), data, frame) for segment in kept)
            body = b"".join([view[:2], *plain, view[end:]])
            return Header("jpeg", (width, height), body, orientation or 1, passes=scans)
    raise InvalidImageError("the JPEG image has no picture data")


def _check_kind(frame: int, bits: int) -> None:
    """Refuse what hardly a program writes, and libjpeg-turbo is not safe with.

    It cannot reduce a lossless picture and, before 3.1.4, writes every pixel into the room for fewer. Of one
    in arithmetic code it makes up what is cut off, without a word, and takes ten times as long.
    """
    if frame not in _SUPPORTED or bits != 8:
        raise InvalidImageError(
            "JPEG images that are lossless, in arithmetic code or of more than 8 bits are not supported"
        )


def _segments(data: bytes, pos: int) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) up to the end of the image, stepping over entropy-coded data."""
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, pos)
        if found is None:
            raise InvalidImageError("the JPEG image is cut short")
        start = found.start()
        marker = data[start + 1]
        if marker == _EOI:
            return
        (length,) = struct.unpack_from(">H", data, start + 2)
        pos = start + 2 + length
        yield marker, start, pos
    raise InvalidImageError(f"the JPEG image has more than {_MAX_SEGMENTS} segments")


def _shapes_pixels(data: bytes, marker: int, start: int) -> bool:
    if marker == _APP0:
        return data.startswith(b"JFIF", start + 4)
    if marker == _APP14:
        return data.startswith(b"Adobe", start + 4)
    return marker in _FRAMES or marker in _TABLES or marker == _SOS


def _unremarkable(segment: bytes, data: bytes, frame: int) -> bytes:
    """Without what the decoder only warns of: it tells the first warning alone, and a loss may follow."""
    marker = segment[1]
    if marker == _APP0 and len(segment) > 9:
        return segment[:9] + b"\1" + segment[10:]  # JFIF's major revision
    if marker == _APP14 and segment[15:16] > b"\0":
        # Adobe's colour transform: 2 is for four components, 1 for three.
        return segment[:15] + (b"\2" if data[frame + 9] == 4 else b"\1") + segment[16:]
    if marker == _SOS and data[frame + 1] != _PROGRESSIVE:
        return segment[:-3] + b"\0\x3f\0"  # which coefficients: all
    return segment


def _scans(data: bytes, frame: int, scan: int, end: int) -> int:
    """How often the decoder passes over all pixels; a scan can be as short as ten bytes."""
    progressive = data[frame + 1] == _PROGRESSIVE
    components = data[scan + 4]
    if not progressive and components == data[frame + 9]:
        return 1  # this one holds every component: the decoder stops after it
    more = [data[start + 4] for marker, start, _ in _segments(data, end) if marker == _SOS]
    if not progressive and components + sum(more) < data[frame + 9]:
        raise InvalidImageError("the JPEG image is cut short")
    return 1 + len(more)


def without_end(body: bytes) -> bytes:
    """Up to where its one scan ends, and as much padding as the decoder reads ahead.

    At a marker it makes up what is missing and warns; here it asks for more. The padding is no valid code.
    """
    scan = next(end for marker, _, end in _segments(body, 2) if marker == _SOS)
    end = _MARKER.search(body, scan)
    if end is None:
        raise InvalidImageError("the JPEG image is cut short")
    return body[: end.start()] + b"\xff\0" * 8
