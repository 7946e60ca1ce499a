"""What a BMP says of its size."""

import struct

from service.vision.errors import InvalidImageError
from service.vision.types import Header


def bmp_header(data: bytes, _max_pixels: int) -> Header:
    """The whole file is its body."""
    (kind,) = struct.unpack_from("<I", data, 14)
    if kind == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        return Header("bmp", (width, height), data)
    width, height, _, _, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression not in (0, 3):
        # Pillow unpacks run lengths in Python, at a cost out of proportion to the picture.
        raise InvalidImageError("compressed BMP images are not supported")
    return Header("bmp", (width, abs(height)), data)
