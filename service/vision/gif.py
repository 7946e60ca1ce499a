"""The first frame of a GIF, alone."""

import struct
from collections.abc import Iterator

from service.vision.errors import InvalidImageError, check_pixels
from service.vision.types import Header

_MAX_BLOCKS = 20_000  # far above what encoders write


def gif_header(data: bytes, max_pixels: int) -> Header:
    """Its body has the first frame alone, on a screen of its own; a screen that is too small for it grows."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    check_pixels(max(width, 1), max(height, 1), max_pixels)
    screen = data[: 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)]
    control, frame = _first_frame(data, len(screen))
    left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, frame + 1)
    size = (max(width, left + frame_width), max(height, top + frame_height))
    own = struct.pack("<HH", frame_width, frame_height)
    parts = [screen[:6], own, screen[10:], control, b",", bytes(4), own, data[frame + 9 :]]
    return Header("gif", size, b"".join(parts), offset=(left, top))


def _first_frame(data: bytes, pos: int) -> tuple[bytes, int]:
    """The graphic control extension that rules the first frame (or nothing), and where the frame starts."""
    control = b""
    budget = iter(range(_MAX_BLOCKS))
    for _ in budget:
        if data[pos] == 0x2C:
            return control, pos
        if data[pos] != 0x21:
            raise InvalidImageError("the GIF image has no frame")
        end = _blocks_end(data, pos + 2, budget)
        if data[pos + 1] == 0xF9:
            control = data[pos:end]
        pos = end
    raise InvalidImageError(f"the GIF image has more than {_MAX_BLOCKS} blocks before its first frame")


def _blocks_end(data: bytes, pos: int, budget: Iterator[int]) -> int:
    for _ in budget:
        if data[pos] == 0:
            return pos + 1
        pos += 1 + data[pos]
    raise InvalidImageError(f"the GIF image has more than {_MAX_BLOCKS} blocks before its first frame")
