"""What an image file says about itself, read before any decoder sees it.

Decoder libraries parse metadata that nobody asked for, in ways that cost far more than an honest file of
the same length: a JPEG of five million empty comments, a PNG of a million chunks, a TIFF that decodes one
strip a million times. So each reader here checks the structure within fixed bounds, notes size and
orientation, and hands on a body that holds the same picture and nothing else.
"""

import struct
import sys
from collections.abc import Callable

from service.vision.bmp import bmp_header
from service.vision.errors import InvalidImageError, UnsupportedFormatError, check_pixels
from service.vision.gif import gif_header
from service.vision.isobmff import avif_header, heif_header
from service.vision.jpeg import jpeg_header
from service.vision.png import png_header
from service.vision.riff import webp_header
from service.vision.tiff import tiff_header
from service.vision.types import Header

ACCEPTED_FORMATS = ("jpeg", "png", "webp", "bmp", "tiff", "gif", "heif", "avif")

# Of all scans together: twelve over 64 megapixels. Encoders write ten over a progressive photo.
_MAX_PASSED_PIXELS = 768_000_000
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})


def read_header(data: bytes, max_pixels: int = sys.maxsize) -> Header:
    """Tell the format from the bytes and read the header, no further than to a size that is too large.

    Raises UnsupportedFormatError, InvalidImageError or ImageTooLargeError.
    """
    name = sniff(data)
    try:
        header = _READERS[name](data, max_pixels)
        check_pixels(*header.size, max_pixels)
        _check_passes(header)
        return header
    except (struct.error, IndexError):
        raise InvalidImageError(f"the {name.upper()} image is cut short or its header is damaged") from None


def sniff(data: bytes) -> str:
    """Name the format, one of ACCEPTED_FORMATS, from magic bytes alone.

    Raises UnsupportedFormatError.
    """
    for magic, name in _MAGIC.items():
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp" and (brand := _isobmff_brand(data)):
        return brand
    accepted = ", ".join(ACCEPTED_FORMATS)
    raise UnsupportedFormatError(f"the bytes are no image of an accepted format ({accepted})")


def _isobmff_brand(data: bytes) -> str | None:
    """Tell avif from heif: the major brand may be the mif1 of both, so the compatible ones count too."""
    (length,) = struct.unpack_from(">I", data)
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, min(length, len(data), 256), 4))}
    if brands & _AVIF_BRANDS:
        return "avif"
    return "heif" if brands & _HEIF_BRANDS else None


def _check_passes(header: Header) -> None:
    """Raise InvalidImageError for a picture that decoders go over more often than one of its size needs."""
    pixels = header.size[0] * header.size[1]
    if header.passes > 1 and header.passes * pixels > _MAX_PASSED_PIXELS:
        raise InvalidImageError(f"the image has {header.passes} scans, too many for its size")


_MAGIC = {
    b"\xff\xd8\xff": "jpeg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"BM": "bmp",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
}

# Raise InvalidImageError, ImageTooLargeError, struct.error or IndexError.
_READERS: dict[str, Callable[[bytes, int], Header]] = {
    "jpeg": jpeg_header,
    "png": png_header,
    "webp": webp_header,
    "bmp": bmp_header,
    "tiff": tiff_header,
    "gif": gif_header,
    "heif": heif_header,
    "avif": avif_header,
}
