"""What an image file says about itself, read before any decoder sees it.

Decoder libraries parse metadata that nobody asked for, in ways that cost far more than an honest file of
the same length: a JPEG of five million empty comments, a PNG of a million chunks, a TIFF that decodes one
strip a million times. So each reader here checks the structure within fixed bounds, notes size and
orientation, and hands on a body that holds the same picture and nothing else.
"""

import re
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

from service.vision.errors import ImageTooLargeError, InvalidImageError, UnsupportedFormatError
from service.vision.isobmff import avif_size, avif_still, heif_lean, heif_size
from service.vision.riff import webp_picture
from service.vision.tiff import exif_orientation, tiff_picture

ACCEPTED_FORMATS = ("jpeg", "png", "webp", "bmp", "tiff", "gif", "heif", "avif")

# Far above what encoders write: 20 MB in the 64 kB segments of a JPEG, or the 4 kB chunks of a PNG.
_MAX_JPEG_SEGMENTS = 2_000
_MAX_JPEG_SCANS = 32
# Of all scans together: twelve over 64 megapixels. Encoders write ten over a progressive photo.
_MAX_PASSED_PIXELS = 768_000_000
_MAX_PNG_CHUNKS = 50_000
_MAX_GIF_BLOCKS = 20_000


@dataclass(frozen=True, slots=True)
class Header:
    """A file's own account of its first picture.

    size: stored width and height, before orientation. Of HEIF and AVIF the largest that any part claims.
    orientation: EXIF's 1..8, how the stored pixels must be turned; None where the decoder library finds it.
    body: what to hand to the decoder.
    bits: significant bits of a sample, for pictures of more than 8.
    offset: where in the size the body's picture begins; what it leaves uncovered is white.
    passes: how often the decoder goes over all pixels.
    """

    format: str
    size: tuple[int, int]
    body: bytes
    orientation: int | None = 1
    bits: int = 8
    offset: tuple[int, int] = (0, 0)
    passes: int = 1

    def described(self) -> dict[str, Any]:
        """All but the body, as plain values."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "body"}


def read_header(data: bytes, max_pixels: int = sys.maxsize) -> Header:
    """Tell the format from the bytes and read the header, no further than to a size that is too large.

    Raises UnsupportedFormatError, InvalidImageError or ImageTooLargeError.
    """
    name = sniff(data)
    try:
        header = _READERS[name](data, max_pixels)
        _check_pixels(*header.size, max_pixels)
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


def _check_pixels(width: int, height: int, limit: int) -> None:
    """Raise ImageTooLargeError over the limit, InvalidImageError for a picture without pixels."""
    if width <= 0 or height <= 0:
        raise InvalidImageError("the image has no pixels")
    if width * height > limit:
        raise ImageTooLargeError(width, height, limit)


def _check_passes(header: Header) -> None:
    """Raise InvalidImageError for a picture that decoders go over more often than one of its size needs."""
    pixels = header.size[0] * header.size[1]
    if header.passes > 1 and header.passes * pixels > _MAX_PASSED_PIXELS:
        raise InvalidImageError(f"the image has {header.passes} scans, too many for its size")


# --- JPEG ---------------------------------------------------------------------------------------------

_EOI, _SOS, _APP0, _APP1, _APP14 = 0xD9, 0xDA, 0xE0, 0xE1, 0xEE
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TABLES = frozenset({0xC4, 0xCC, 0xDB, 0xDD})
_SEQUENTIAL = frozenset({0xC0, 0xC1, 0xC9})
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
# A marker with a segment of its own, or EOI. Entropy-coded data holds only 0xFF00 and restarts (0xFFD0..7).
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


def _jpeg(data: bytes, max_pixels: int) -> Header:
    view = memoryview(data)
    kept: list[memoryview] = []
    frame = orientation = None
    width = height = 0
    for marker, start, end in _jpeg_segments(data, 2):
        if marker in _FRAMES:
            if frame is not None:
                raise InvalidImageError("the JPEG image has more than one frame header")
            frame = start
            height, width = struct.unpack_from(">HH", data, frame + 5)
            _check_pixels(width, height, max_pixels)
        elif marker == _APP1 and orientation is None and data.startswith(b"Exif\0\0", start + 4):
            orientation = exif_orientation(data[start + 4 : end])
        if _shapes_jpeg_pixels(data, marker, start):
            kept.append(view[start:end])
        if marker == _SOS and frame is not None:
            scans = _jpeg_scans(data, frame, start, end)
            if scans > _MAX_JPEG_SCANS:
                raise InvalidImageError(f"the JPEG image has more than {_MAX_JPEG_SCANS} scans")
            plain = (_unremarkable(bytes(segment), data, frame) for segment in kept)
            body = b"".join([view[:2], *plain, view[end:]])
            return Header("jpeg", (width, height), body, orientation or 1, passes=scans)
    raise InvalidImageError("the JPEG image has no picture data")


def _jpeg_segments(data: bytes, pos: int) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) up to the end of the image, stepping over entropy-coded data."""
    for _ in range(_MAX_JPEG_SEGMENTS):
        found = _JPEG_MARKER.search(data, pos)
        if found is None:
            raise InvalidImageError("the JPEG image is cut short")
        start = found.start()
        marker = data[start + 1]
        if marker == _EOI:
            return
        (length,) = struct.unpack_from(">H", data, start + 2)
        pos = start + 2 + length
        yield marker, start, pos
    raise InvalidImageError(f"the JPEG image has more than {_MAX_JPEG_SEGMENTS} segments")


def _shapes_jpeg_pixels(data: bytes, marker: int, start: int) -> bool:
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
    if marker == _SOS and data[frame + 1] in _SEQUENTIAL:
        return segment[:-3] + b"\0\x3f\0"  # which coefficients: all
    return segment


def _jpeg_scans(data: bytes, frame: int, scan: int, end: int) -> int:
    """How often the decoder passes over all pixels; a scan can be as short as ten bytes."""
    progressive = data[frame + 1] in _PROGRESSIVE
    if not progressive and data[scan + 4] == data[frame + 9]:
        return 1  # this one holds every component: the decoder stops after it
    return 1 + sum(marker == _SOS for marker, _, _ in _jpeg_segments(data, end))


# --- PNG ----------------------------------------------------------------------------------------------

_PNG_KEPT = frozenset({b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by kind of colour
_PNG_PIECE, _PNG_INFLATED = 1 << 16, 1 << 20  # bytes at a time, before and after
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


def _png(data: bytes, max_pixels: int) -> Header:
    length, kind, width, height = struct.unpack_from(">I4sII", data, 8)
    if kind != b"IHDR" or length != 13:
        raise InvalidImageError("the PNG image does not start with its header")
    _check_pixels(width, height, max_pixels)
    view = memoryview(data)
    kept = [view[:33]]
    exif = b""
    for kind, start, end in _png_chunks(data, 33):
        if kind in _PNG_KEPT:
            kept.append(view[start:end])
        elif kind == b"eXIf":
            exif = exif or data[start + 8 : end - 4]
    return Header("png", (width, height), b"".join(kept), exif_orientation(exif), bits=data[24])


def _png_chunks(data: bytes, pos: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start, end) of each chunk, IEND the last."""
    for _ in range(_MAX_PNG_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, pos)
        end = pos + 12 + length
        if end > len(data):
            raise InvalidImageError("the PNG image is cut short")
        yield kind, pos, end
        if kind == b"IEND":
            return
        pos = end
    raise InvalidImageError(f"the PNG image has more than {_MAX_PNG_CHUNKS} chunks")


def png_is_whole(body: bytes) -> bool:
    """Whether its compressed data, which may end early without any fault, has all rows of its pixels."""
    missing = sum(_png_lengths(body))
    inflater = zlib.decompressobj()
    for piece in _png_data(body):
        while piece and missing > 0:
            missing -= len(inflater.decompress(piece, _PNG_INFLATED))
            piece = inflater.unconsumed_tail  # noqa: PLW2901
    return missing <= 0 or missing <= len(inflater.flush())


def _png_data(body: bytes) -> Iterator[bytes]:
    """The compressed data, in pieces: the inflater copies what it leaves of one each time."""
    for kind, start, end in _png_chunks(body, 33):
        if kind == b"IDAT":
            for at in range(start + 8, end - 4, _PNG_PIECE):
                yield body[at : min(at + _PNG_PIECE, end - 4)]


def _png_lengths(body: bytes) -> Iterator[int]:
    """Bytes of each pass: of the picture, or of the seven parts of an interlaced one."""
    width, height, bits, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", body, 16)
    for left, top, across, down in _ADAM7 if interlaced else [(0, 0, 1, 1)]:
        columns, rows = -((left - width) // across), -((top - height) // down)
        if columns > 0:
            yield rows * (1 + -(-columns * bits * _PNG_SAMPLES[colour] // 8))


# --- GIF ----------------------------------------------------------------------------------------------


def _gif(data: bytes, max_pixels: int) -> Header:
    """The first frame alone, on a screen of its own; where it reaches beyond the real one, that grows."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    _check_pixels(max(width, 1), max(height, 1), max_pixels)
    screen = data[: 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)]
    control, frame = _gif_first_frame(data, len(screen))
    left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, frame + 1)
    size = (max(width, left + frame_width), max(height, top + frame_height))
    own = struct.pack("<HH", frame_width, frame_height)
    parts = [screen[:6], own, screen[10:], control, b",", bytes(4), own, data[frame + 9 :]]
    return Header("gif", size, b"".join(parts), offset=(left, top))


def _gif_first_frame(data: bytes, pos: int) -> tuple[bytes, int]:
    """The graphic control extension that rules the first frame (or nothing), and where the frame starts."""
    control = b""
    budget = iter(range(_MAX_GIF_BLOCKS))
    for _ in budget:
        if data[pos] == 0x2C:
            return control, pos
        if data[pos] != 0x21:
            raise InvalidImageError("the GIF image has no frame")
        end = _gif_blocks_end(data, pos + 2, budget)
        if data[pos + 1] == 0xF9:
            control = data[pos:end]
        pos = end
    raise InvalidImageError(f"the GIF image has more than {_MAX_GIF_BLOCKS} blocks before its first frame")


def _gif_blocks_end(data: bytes, pos: int, budget: Iterator[int]) -> int:
    for _ in budget:
        if data[pos] == 0:
            return pos + 1
        pos += 1 + data[pos]
    raise InvalidImageError(f"the GIF image has more than {_MAX_GIF_BLOCKS} blocks before its first frame")


# --- BMP ----------------------------------------------------------------------------------------------


def _bmp(data: bytes, _max_pixels: int) -> Header:
    (kind,) = struct.unpack_from("<I", data, 14)
    if kind == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        return Header("bmp", (width, height), data)
    width, height, _, _, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression not in (0, 3):
        # Pillow unpacks run lengths in Python, at a cost out of proportion to the picture.
        raise InvalidImageError("compressed BMP images are not supported")
    return Header("bmp", (width, abs(height)), data)


# --- WebP ---------------------------------------------------------------------------------------------


def _webp(data: bytes, _max_pixels: int) -> Header:
    picture = webp_picture(data)
    orientation = exif_orientation(picture.exif)
    return Header("webp", picture.canvas, picture.body, orientation, offset=picture.offset)


# --- TIFF ---------------------------------------------------------------------------------------------


def _tiff(data: bytes, _max_pixels: int) -> Header:
    picture = tiff_picture(data)
    return Header("tiff", picture.size, picture.body, picture.orientation, bits=picture.bits)


# --- HEIF and AVIF ------------------------------------------------------------------------------------

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})


def _isobmff_brand(data: bytes) -> str | None:
    """Tell avif from heif: the major brand may be the mif1 of both, so the compatible ones count too."""
    (length,) = struct.unpack_from(">I", data)
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, min(length, len(data), 256), 4))}
    if brands & _AVIF_BRANDS:
        return "avif"
    return "heif" if brands & _HEIF_BRANDS else None


def _heif(data: bytes, _max_pixels: int) -> Header:
    return Header("heif", heif_size(data), heif_lean(data), orientation=None)


def _avif(data: bytes, _max_pixels: int) -> Header:
    return Header("avif", avif_size(data), avif_still(data), orientation=None)


_MAGIC = {
    b"\xff\xd8\xff": "jpeg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"BM": "bmp",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
}

_READERS: dict[str, Callable[[bytes, int], Header]] = {
    "jpeg": _jpeg,
    "png": _png,
    "webp": _webp,
    "bmp": _bmp,
    "tiff": _tiff,
    "gif": _gif,
    "heif": _heif,
    "avif": _avif,
}
