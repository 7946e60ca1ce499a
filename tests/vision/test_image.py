"""Decoding: every format gives the same upright picture; nothing else gets through, or costs much."""

import re
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.vision.errors import ImageError, ImageTooLargeError, InvalidImageError, UnsupportedFormatError
from service.vision.headers import ACCEPTED_FORMATS, read_header, sniff
from service.vision.image import decode
from service.vision.mtcnn import default_min_face_size
from service.vision.types import DecodedImage, UInt8Array

DATA = Path(__file__).parents[1] / "data"
PORTRAIT = Image.open(BytesIO((DATA / "astronaut.jpg").read_bytes())).convert("RGB").resize((256, 256))
RGB = np.asarray(PORTRAIT)
ORIENTATION = 0x112
# Pillow's transposition that stores an upright picture in each EXIF orientation.
STORED_AS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def encoded(image: Image.Image, name: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def decoded(data: bytes, max_pixels: int = 10_000_000, min_face: float = 20.0) -> DecodedImage:
    return decode(data, max_pixels=max_pixels, min_face_size=lambda _width, _height: min_face)


def difference(pixels: UInt8Array, expected: NDArray[Any]) -> float:
    return float(np.abs(pixels.astype(np.int16) - expected.astype(np.int16)).mean())


def transparent(image: Image.Image = PORTRAIT) -> tuple[Image.Image, NDArray[np.float64]]:
    """The picture with a horizontal ramp of alpha, and what it looks like over white."""
    alpha = np.tile(np.linspace(0, 255, image.width).astype(np.uint8), (image.height, 1))
    rgba = image.convert("RGBA")
    rgba.putalpha(Image.fromarray(alpha))
    weight = alpha[..., np.newaxis] / 255
    return rgba, np.asarray(image) * weight + 255 * (1 - weight)


def sixteen_bit() -> tuple[Image.Image, UInt8Array]:
    gray = np.asarray(PORTRAIT.convert("L"))
    return Image.fromarray(gray.astype(np.uint16) << 8 | 255 - gray), gray


def gray_png(bits: int, row: bytes) -> bytes:
    """One row of gray pixels."""
    header = struct.pack(">IIBBBBB", len(row) * 8 // bits, 1, bits, 0, 0, 0, 0)
    return png(header, zlib.compress(b"\0" + row))


def png(header: bytes, pixels: bytes, *more: bytes) -> bytes:
    head, data, end = chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + data + end


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def tiff(tags: dict[int, int | tuple[int, int]], tail: bytes = b"") -> bytes:
    """A TIFF directory of 32-bit values, each alone or as (count, offset)."""
    entries = [(tag, 4, *(value if isinstance(value, tuple) else (1, value))) for tag, value in tags.items()]
    packed = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4) + tail


def gray_tiff(width: int, height: int, **tags: int | tuple[int, int]) -> bytes:
    named = {"compression": 259, "strip_offsets": 273, "rows_per_strip": 278}
    base: dict[int, int | tuple[int, int]] = {
        256: width,
        257: height,
        258: 8,
        259: 1,
        262: 1,
        273: 8,
        279: 100,
    }
    return tiff(base | {named[name]: value for name, value in tags.items()}, bytes(1_000))


def gif(screen: tuple[int, int], frame: tuple[int, int], before: bytes = b"") -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6)
    return head + before + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02D\x01\0;"


def bmp(width: int, height: int) -> bytes:
    head = b"BM" + struct.pack("<IHHI", 54, 0, 0, 54)
    return head + struct.pack("<IiiHHIIIIII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def webp_canvas(width: int, height: int, picture: bytes = b"") -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<II", 10, 0) + sides + picture
    return b"RIFF" + struct.pack("<I", len(body)) + body


def resized_jpeg(data: bytes, width: int, height: int) -> bytes:
    frame = data.index(b"\xff\xc0") + 5
    return data[:frame] + struct.pack(">HH", height, width) + data[frame + 4 :]


def resized_container(data: bytes, width: int, height: int) -> bytes:
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", width, height) + data[at + 8 :]


LOSSLESS = 0.01
ENCODINGS: dict[str, tuple[str, str, float, Callable[[], bytes]]] = {
    "jpeg": ("jpeg", "RGB", 4, lambda: encoded(PORTRAIT, "JPEG", quality=90)),
    "jpeg progressive": ("jpeg", "RGB", 4, lambda: encoded(PORTRAIT, "JPEG", quality=90, progressive=True)),
    "jpeg gray": ("jpeg", "L", 4, lambda: encoded(PORTRAIT.convert("L"), "JPEG", quality=90)),
    "jpeg cmyk": ("jpeg", "RGB", 4, lambda: encoded(PORTRAIT.convert("CMYK"), "JPEG", quality=95)),
    "png": ("png", "RGB", LOSSLESS, lambda: encoded(PORTRAIT, "PNG")),
    "png gray": ("png", "L", LOSSLESS, lambda: encoded(PORTRAIT.convert("L"), "PNG")),
    "png palette": ("png", "RGB", 7, lambda: encoded(PORTRAIT.quantize(256), "PNG")),
    "webp": ("webp", "RGB", 5, lambda: encoded(PORTRAIT, "WEBP", quality=90)),
    "webp lossless": ("webp", "RGB", LOSSLESS, lambda: encoded(PORTRAIT, "WEBP", lossless=True)),
    "bmp": ("bmp", "RGB", LOSSLESS, lambda: encoded(PORTRAIT, "BMP")),
    "bmp palette": ("bmp", "RGB", 7, lambda: encoded(PORTRAIT.quantize(256), "BMP")),
    "tiff": ("tiff", "RGB", LOSSLESS, lambda: encoded(PORTRAIT, "TIFF")),
    "tiff lzw": ("tiff", "RGB", LOSSLESS, lambda: encoded(PORTRAIT, "TIFF", compression="tiff_lzw")),
    "tiff jpeg": ("tiff", "RGB", 5, lambda: encoded(PORTRAIT, "TIFF", compression="jpeg", quality=90)),
    "tiff cmyk": ("tiff", "RGB", LOSSLESS, lambda: encoded(PORTRAIT.convert("CMYK"), "TIFF")),
    "gif": ("gif", "RGB", 7, lambda: encoded(PORTRAIT, "GIF")),
    "avif": ("avif", "RGB", 5, lambda: encoded(PORTRAIT, "AVIF", quality=90, speed=10)),
}


@cache
def sample(name: str) -> bytes:
    """The picture in one of ENCODINGS, or a HEIF file."""
    return (DATA / "astronaut-rotated.heic").read_bytes() if name == "heif" else ENCODINGS[name][3]()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_gives_nearly_the_same_pixels(encoding: str) -> None:
    name, mode, tolerance, _ = ENCODINGS[encoding]
    image = decoded(sample(encoding))

    assert (image.format, image.width, image.height, image.exif_orientation) == (name, 256, 256, 1)
    assert image.pixels.shape == (256, 256, 3)
    assert image.pixels.dtype == np.uint8
    assert difference(image.pixels, np.asarray(PORTRAIT.convert(mode).convert("RGB"))) < tolerance


def test_heif_is_rotated_once() -> None:
    image = decoded((DATA / "astronaut-rotated.heic").read_bytes())

    assert (image.format, image.width, image.height, image.exif_orientation) == ("heif", 256, 200, 6)
    assert difference(image.pixels, RGB[:200]) < 5


def test_heif_pixels_outlive_the_decoder() -> None:
    pixels = decoded(sample("heif")).pixels

    assert pixels.flags.owndata
    assert (pixels == decoded(sample("heif")).pixels).all()


def test_gray_heif_of_10_bits_is_scaled_not_clipped() -> None:
    expected = np.asarray(PORTRAIT.resize((64, 64)).convert("L"))[..., np.newaxis]

    assert difference(decoded((DATA / "astronaut-gray10.heic").read_bytes()).pixels, expected) < 10


def test_an_error_of_the_caller_is_not_blamed_on_the_picture() -> None:
    def broken(width: int, height: int) -> float:
        return (width + height) / 0

    with pytest.raises(ZeroDivisionError):
        decode(sample("jpeg"), max_pixels=1_000_000, min_face_size=broken)


def test_every_accepted_format_is_shown_here() -> None:
    assert {name for name, _, _, _ in ENCODINGS.values()} | {"heif"} == set(ACCEPTED_FORMATS)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_each_orientation_gives_the_same_upright_picture(name: str, orientation: int) -> None:
    upright = PORTRAIT.crop((0, 0, 256, 160))
    stored = upright.transpose(STORED_AS[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x10F], exif[ORIENTATION] = "a maker", orientation  # cameras write more, some of it before
    image = decoded(encoded(stored, name, exif=exif.tobytes(), quality=90))

    assert (image.width, image.height, image.exif_orientation) == (256, 160, orientation)
    assert difference(image.pixels, np.asarray(upright)) < 6


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II*\0",
        b"MM\0*\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff" + bytes(20),
        b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", ORIENTATION, 3, 1, 9),
        b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", ORIENTATION, 2, 1, 6),
    ],
    ids=["empty", "no directory", "directory outside", "entries missing", "value 9", "wrong type"],
)
def test_damaged_exif_counts_as_upright(exif: bytes) -> None:
    jpeg = encoded(PORTRAIT, "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif

    image = decoded(jpeg[:2] + segment + jpeg[2:])

    assert image.exif_orientation == 1
    assert image.pixels.shape == (256, 256, 3)


def test_the_first_exif_of_a_jpeg_counts_whatever_comes_before_it() -> None:
    jpeg, exif = encoded(PORTRAIT, "JPEG"), Image.Exif()
    blocks = [b"http://ns.adobe.com/xap/1.0/\0<x/>"]
    for exif[ORIENTATION] in (6, 3):
        blocks.append(exif.tobytes())
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block for block in blocks)

    assert decoded(jpeg[:2] + segments + jpeg[2:]).exif_orientation == 6


def test_a_webp_chunk_of_odd_length_is_padded() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = encoded(PORTRAIT, "WEBP", exif=exif.tobytes())
    body = data[8:30] + b"JUNK\3\0\0\0odd\0" + data[30:]  # after VP8X
    image = decoded(b"RIFF" + struct.pack("<I", len(body)) + body)

    assert data[12:16] == b"VP8X"
    assert image.exif_orientation == 6


def test_a_jpeg_may_say_that_its_colours_are_red_green_and_blue() -> None:
    jpeg = encoded(PORTRAIT, "JPEG", quality=90)
    adobe = b"\xff\xee\0\x0eAdobe\0\x64" + bytes(5)
    assert jpeg[6:10] == b"JFIF"

    pixels = decoded(jpeg[:2] + adobe + jpeg[20:]).pixels

    assert difference(pixels, np.asarray(PORTRAIT.convert("YCbCr"))) < 4


@pytest.mark.parametrize(
    ("name", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})]
)
def test_transparency_is_laid_over_white(name: str, options: dict[str, Any]) -> None:
    rgba, expected = transparent()

    assert difference(decoded(encoded(rgba, name, **options)).pixels, expected) < 1


def test_transparency_of_a_lossy_webp_is_laid_over_white() -> None:
    rgba, expected = transparent()

    assert difference(decoded(encoded(rgba, "WEBP", quality=95, exact=True)).pixels, expected) < 4


def test_gray_with_alpha_is_laid_over_white() -> None:
    rgba, _ = transparent()

    pixels = decoded(encoded(rgba.convert("LA"), "PNG")).pixels

    assert (pixels[:, 0] == 255).all()
    assert difference(pixels[:, -1:], np.asarray(PORTRAIT.convert("L"))[:, -1:, np.newaxis]) < 1


@pytest.mark.parametrize(
    ("name", "options"), [("PNG", {"compress_level": 1}), ("WEBP", {"lossless": True, "method": 0})]
)
def test_of_a_large_picture_each_part_is_in_its_place(name: str, options: dict[str, Any]) -> None:
    # More than is converted at a time.
    large = PORTRAIT.resize((1_100, 1_100), Image.Resampling.NEAREST).convert("RGBA")
    large.putpixel((0, 0), (255, 255, 255, 0))

    pixels = decoded(encoded(large, name, **options)).pixels

    assert (pixels == np.asarray(large.convert("RGB"))).all()


@pytest.mark.parametrize(("alpha", "expected"), [([0, 0], [[10] * 3] * 2), ([255, 0], [[10] * 3, [255] * 3])])
def test_a_bmp_with_nothing_in_its_alpha_is_opaque(alpha: list[int], expected: list[list[int]]) -> None:
    head = b"BM" + struct.pack("<IHHIIiiHHI", 130, 0, 0, 122, 108, 2, 1, 1, 32, 3) + bytes(20)
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(52)
    row = b"".join(bytes([10, 10, 10, one]) for one in alpha)

    assert decoded(head + masks + row).pixels.tolist() == [expected]


@pytest.mark.parametrize("name", ["PNG", "GIF"])
def test_a_transparent_palette_entry_is_white(name: str) -> None:
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 200, 30, 30])
    palette.paste(0, (0, 0, 4, 8))

    pixels = decoded(encoded(palette, name, transparency=0)).pixels

    assert (pixels[:, :4] == 255).all()
    assert (pixels[:, 4:] == (200, 30, 30)).all()


def test_a_comment_does_not_end_what_a_gif_says_of_its_frames_transparency() -> None:
    """As ImageMagick writes it."""
    control, comment = b"!\xf9\x04\x01\0\0\0\0", b"!\xfe\x01a\0"
    data = gif((2, 1), (1, 1), control + comment)

    assert len(read_header(data).body) == len(data) - len(comment)
    assert decoded(data).pixels.tolist() == [[[255] * 3, [255] * 3]]


# Bits, PNG's number for gray or RGB, two samples or more, their transparent one, and what is seen.
KEYED: dict[str, tuple[int, int, bytes, bytes, list[list[int]]]] = {
    "1-bit gray": (1, 0, b"\x40", b"\0\0", [[255] * 3] * 8),
    "2-bit gray": (2, 0, b"\x1b", b"\0\1", [[0] * 3, [255] * 3, [170] * 3, [255] * 3]),
    "4-bit gray": (4, 0, b"\x56", b"\0\5", [[255] * 3, [102] * 3]),
    "8-bit gray": (8, 0, b"\5\6", b"\0\5", [[255] * 3, [6] * 3]),
    "16-bit gray": (16, 0, b"\1\2\1\3", b"\1\2", [[255] * 3, [1] * 3]),
    "8-bit RGB": (8, 2, b"\1\2\3\1\2\4", b"\0\1\0\2\0\3", [[255] * 3, [1, 2, 4]]),
    "16-bit RGB": (16, 2, b"\1\2\3\4\5\6\2\1\4\3\6\5", b"\1\2\3\4\5\6", [[255] * 3, [2, 4, 6]]),
}


@pytest.mark.parametrize("kind", KEYED)
def test_the_transparent_colour_of_a_png_is_white_and_no_other(kind: str) -> None:
    bits, colour, row, key, expected = KEYED[kind]
    header = struct.pack(">IIBBBBB", len(expected), 1, bits, colour, 0, 0, 0)

    pixels = decoded(png(header, zlib.compress(b"\0" + row), chunk(b"tRNS", key))).pixels

    assert pixels.tolist() == [expected]


@pytest.mark.parametrize("name", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(name: str) -> None:
    image, gray = sixteen_bit()

    assert (decoded(encoded(image, name)).pixels == gray[..., np.newaxis]).all()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (gray_png(1, b"\xaa"), [255, 0] * 4),
        (gray_png(4, b"\x0f"), [0, 255]),
        (gray_png(16, b"\x00\x00\x80\x00\xff\xff"), [0, 128, 255]),
    ],
    ids=["1 bit", "4 bits", "16 bits"],
)
def test_bit_depths_of_png(data: bytes, expected: list[int]) -> None:
    assert decoded(data).pixels[0, :, 0].tolist() == expected


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_samples_of_32_bits_are_refused(kind: type) -> None:
    data = encoded(Image.fromarray(np.ones((8, 8), kind)), "TIFF")

    with pytest.raises(InvalidImageError, match="32-bit"):
        decoded(data)


def test_colours_of_32_bits_are_refused_with_the_same_reason() -> None:
    bits = struct.pack("<III", 32, 32, 32)
    data = tiff({256: 8, 257: 8, 258: (3, 122), 259: 1, 262: 2, 273: 8, 277: 3, 278: 8, 279: 768}, bits)

    with pytest.raises(InvalidImageError, match="32-bit"):
        decoded(data + bytes(1_000))


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_only_the_first_picture_counts(name: str) -> None:
    frames = [Image.new("RGB", (64, 48), color) for color in ("red", "blue", "green")]
    pixels = decoded(encoded(frames[0], name, save_all=True, append_images=frames[1:])).pixels

    assert difference(pixels, np.full((48, 64, 3), (255, 0, 0))) < 5


def test_a_first_frame_smaller_than_its_animation_is_laid_over_white() -> None:
    first = Image.new("RGBA", (64, 48))
    first.paste("red", (10, 20, 30, 40))
    second = Image.new("RGBA", (64, 48), "blue")
    data = encoded(first, "WEBP", save_all=True, append_images=[second], lossless=True, minimize_size=True)
    expected = np.full((48, 64, 3), 255)
    expected[20:40, 10:30] = (255, 0, 0)

    assert b"ANMF" in data
    assert (decoded(data).pixels == expected).all()


@pytest.mark.parametrize("screen", [(64, 48), (25, 30), (0, 0)], ids=["within", "beyond", "no screen"])
def test_what_the_first_frame_of_a_gif_leaves_uncovered_is_white(screen: tuple[int, int]) -> None:
    data = bytearray(encoded(Image.new("RGB", (20, 10), "red"), "GIF"))
    frame = data.index(b"," + bytes(4) + struct.pack("<HH", 20, 10))
    data[6:10] = struct.pack("<HH", *screen)
    data[frame + 1 : frame + 5] = struct.pack("<HH", 10, 25)
    width, height = max(screen[0], 30), max(screen[1], 35)
    expected = np.full((height, width, 3), 255)
    expected[25:35, 10:30] = (255, 0, 0)

    image = decoded(bytes(data))

    assert (image.width, image.height) == (width, height)
    assert (image.pixels == expected).all()


def test_a_gif_may_have_its_colours_in_its_frame() -> None:
    screen = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x07, 0, 0)  # a size of a table that is not there
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0x80) + bytes([200, 30, 30, 0, 0, 0])

    assert decoded(screen + frame + b"\x02\x02D\x01\0;").pixels.tolist() == [[[200, 30, 30]]]


@pytest.mark.parametrize("header", ["<IHHHH", "<IiiHHIIIIII"], ids=["of OS/2", "upside down"])
def test_a_bmp_may_be_old_or_upside_down(header: str) -> None:
    rows = [b"\0\1\2\3\4\5\0\0", b"\6\7\x08\x09\x0a\x0b\0\0"]
    length = struct.calcsize(header)
    sides, rest = ((2, 2), [1, 24]) if length == 12 else ((2, -2), [1, 24, *6 * [0]])
    head = b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + length) + struct.pack(header, length, *sides, *rest)
    first, last = [[2, 1, 0], [5, 4, 3]], [[8, 7, 6], [11, 10, 9]]

    expected = [last, first] if length == 12 else [first, last]
    assert decoded(head + b"".join(rows)).pixels.tolist() == expected


def test_a_bmp_of_run_lengths_is_refused_with_a_reason() -> None:
    data = bytearray(sample("bmp palette"))
    struct.pack_into("<I", data, 30, 1)

    with pytest.raises(InvalidImageError, match="compressed BMP"):
        decoded(bytes(data))


def test_a_phone_jpeg_with_a_second_picture_is_a_jpeg() -> None:
    image = decoded(encoded(PORTRAIT, "MPO", save_all=True, append_images=[PORTRAIT.rotate(180)]))

    assert image.format == "jpeg"
    assert difference(image.pixels, RGB) < 6


# --- Reduced scale ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("min_face", "scale"), [(20, 1), (48, 1), (95.9, 1), (96, 2), (191, 2), (192, 4), (384, 8), (5_000, 8)]
)
def test_a_jpeg_is_reduced_while_the_smallest_face_keeps_48_pixels(min_face: float, scale: int) -> None:
    data = encoded(PORTRAIT.resize((1_001, 703)), "JPEG")

    image = decoded(data, min_face=min_face)

    assert (image.width, image.height) == (1_001, 703)
    assert image.pixels.shape == (-(-703 // scale), -(-1_001 // scale), 3)


def test_a_jpeg_of_odd_sides_that_pillow_takes_is_reduced_as_far() -> None:
    data = encoded(PORTRAIT.crop((0, 0, 251, 187)).convert("CMYK"), "JPEG", subsampling="4:2:0")

    assert decoded(data, min_face=96).pixels.shape == (94, 126, 3)


def test_the_smallest_face_is_asked_for_with_upright_sides() -> None:
    asked: list[tuple[int, int]] = []
    exif = Image.Exif()
    exif[ORIENTATION] = 6

    def min_face_size(width: int, height: int) -> float:
        asked.append((width, height))
        return 96

    data = encoded(PORTRAIT.resize((100, 61)), "JPEG", exif=exif.tobytes())
    image = decode(data, max_pixels=10_000, min_face_size=min_face_size)

    assert asked == [(61, 100)]
    assert (image.width, image.height, image.pixels.shape) == (61, 100, (50, 31, 3))


def test_a_tiff_of_16_bits_in_which_zero_is_white_is_no_negative() -> None:
    data = encoded(Image.fromarray(np.full((8, 8), 65_535, np.uint16)), "TIFF")
    assert decoded(data).pixels.min() == 255
    black, white = (struct.pack("<HHIHH", 262, 3, 1, zero_is_black, 0) for zero_is_black in (1, 0))
    assert data.count(black) == 1
    with pytest.raises(InvalidImageError, match="zero is white"):
        decoded(data.replace(black, white))


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_of_signed_samples_is_no_noise(bits: int) -> None:
    unsigned, signed = (
        tiff({256: 8, 257: 8, 258: bits, 259: 1, 262: 1, 273: 8, 278: 8, 279: 128, 339: kind}, bytes(100))
        for kind in (1, 2)
    )
    assert decoded(unsigned).pixels.shape == (8, 8, 3)
    with pytest.raises(InvalidImageError, match="signed"):
        decoded(signed)


def test_a_tiff_of_samples_that_pillow_does_not_know_is_not_called_damaged_alone() -> None:
    data = tiff({256: 8, 257: 8, 258: 10, 259: 1, 262: 1, 273: 8, 278: 8, 279: 80}, bytes(100))

    with pytest.raises(InvalidImageError, match="of a kind that is not supported"):
        decoded(data)


def planar_tiff(pixels: UInt8Array, bits: int, *, deflated: bool) -> bytes:
    """One strip for each colour, and for alpha where that is a fourth."""
    height, width, count = pixels.shape
    planes = [np.ascontiguousarray(plane) for plane in pixels.transpose(2, 0, 1)]
    strips = [(plane if bits == 8 else plane.astype("<u2") << 8).tobytes() for plane in planes]
    strips = [zlib.compress(strip) if deflated else strip for strip in strips]
    tags = {
        256: width,
        257: height,
        258: bits,
        259: 8 if deflated else 1,
        262: 2,
        277: count,
        278: height,
        284: 2,
        **({338: 2} if count == 4 else {}),
    }
    start = len(tiff(tags | {273: 0, 279: 0}))
    lengths = [len(strip) for strip in strips]
    offsets = [start + 12 * count + sum(lengths[:index]) for index in range(count)]
    tables = struct.pack(f"<{3 * count}I", *count * [bits], *offsets, *lengths)
    places = {tag: (count, start + 4 * count * index) for index, tag in enumerate((258, 273, 279))}
    return tiff(tags | places, tables + b"".join(strips))


@pytest.mark.parametrize(("bits", "deflated"), [(8, False), (8, True), (16, True)])
def test_a_tiff_may_come_in_planes(bits: int, deflated: bool) -> None:
    assert (decoded(planar_tiff(RGB, bits, deflated=deflated)).pixels == RGB).all()


def test_a_tiff_in_planes_may_be_transparent() -> None:
    rgba, expected = transparent()

    assert difference(decoded(planar_tiff(np.asarray(rgba), 8, deflated=False)).pixels, expected) < 1


def test_a_tiff_of_16_bits_in_planes_is_no_noise() -> None:
    with pytest.raises(InvalidImageError, match="in planes"):
        decoded(planar_tiff(RGB, 16, deflated=False))


@pytest.mark.parametrize("tags", [{262: 8, 277: 3}, {262: 1, 277: 2, 338: 2}], ids=["Lab", "gray with alpha"])
def test_a_tiff_whose_planes_pillow_misreads_is_refused(tags: dict[int, int | tuple[int, int]]) -> None:
    with pytest.raises(InvalidImageError, match="in planes"):
        decoded(tiff(tags | {256: 4, 257: 4, 258: 8, 284: 2}))


def test_a_tiff_of_8_bits_in_which_zero_is_white_is_no_negative() -> None:
    data = tiff({256: 4, 257: 1, 258: 8, 262: 0, 273: 98, 278: 1, 279: 4}, b"\0\1\xfe\xff")

    assert decoded(data).pixels[0, :, 0].tolist() == [255, 254, 1, 0]


@pytest.mark.parametrize(
    ("bits", "photometric", "row"),
    [(16, 1, b"\xff\0\0\x80\xff\xff"), (8, 0, b"\xff\x7f\0"), (4, 0, b"\xf7\0")],
    ids=["16 bits", "zero is white", "zero is white, 4 bits"],
)
def test_planes_are_no_matter_in_a_tiff_of_one_sample(bits: int, photometric: int, row: bytes) -> None:
    data = tiff({256: 3, 257: 1, 258: bits, 262: photometric, 273: 110, 278: 1, 279: len(row), 284: 2}, row)

    assert decoded(data).pixels[0, :, 0].tolist() == [0, 128 if bits > 4 else 136, 255]


@pytest.mark.parametrize("orientation", [0, 9])
def test_a_tiff_in_no_orientation_counts_as_upright(orientation: int) -> None:
    data = encoded(Image.new("L", (8, 4)), "TIFF", tiffinfo={ORIENTATION: orientation})

    assert decoded(data).exif_orientation == 1


# Compression, mode and tags: a horizontal predictor, rows in two dimensions, bits from the right.
TIFFS: dict[str, tuple[str | None, str, dict[int, Any]]] = {
    "predictor": ("tiff_lzw", "RGB", {317: 2}),
    "palette": (None, "P", {}),
    "other tags": (None, "RGB", {305: "a program"}),
    "packbits": ("packbits", "RGB", {}),
    "deflate": ("tiff_adobe_deflate", "RGB", {}),
    "run lengths": ("tiff_ccitt", "1", {}),
    "group 3 fax": ("group3", "1", {292: 1}),
    "fill order": ("group4", "1", {266: 2}),
}


@pytest.mark.parametrize("kind", TIFFS)
def test_every_kind_of_tiff_keeps_its_pixels(kind: str) -> None:
    compression, mode, tags = TIFFS[kind]
    picture = PORTRAIT.convert(mode)

    pixels = decoded(encoded(picture, "TIFF", compression=compression, tiffinfo=tags)).pixels

    assert (pixels == np.asarray(picture.convert("RGB"))).all()


def tiled_tiff(gray: UInt8Array, compression: int, encode: Callable[[UInt8Array], bytes]) -> bytes:
    """In tiles of 16 x 16 pixels."""
    height, width = gray.shape
    padded = np.pad(gray, ((0, -height % 16), (0, -width % 16)), mode="edge")
    rows, columns = (range(0, side, 16) for side in padded.shape)
    tiles = [encode(padded[y : y + 16, x : x + 16]) for y in rows for x in columns]
    count, lengths = len(tiles), [len(tile) for tile in tiles]
    tags = {256: width, 257: height, 258: 8, 259: compression, 262: 1, 322: 16, 323: 16}
    start = len(tiff(tags | {324: 0, 325: 0}))
    offsets = [start + 8 * count + sum(lengths[:index]) for index in range(count)]
    table = struct.pack(f"<{2 * count}I", *offsets, *lengths)
    return tiff(tags | {324: (count, start), 325: (count, start + 4 * count)}, table + b"".join(tiles))


@pytest.mark.parametrize("compression", [1, 7], ids=["raw", "jpeg"])
def test_a_tiff_may_come_in_tiles(compression: int) -> None:
    def encode(tile: UInt8Array) -> bytes:
        return tile.tobytes() if compression == 1 else encoded(Image.fromarray(tile), "JPEG", quality=95)

    gray = np.asarray(PORTRAIT.convert("L").resize((40, 30)))
    data = tiled_tiff(gray, compression, encode)

    assert difference(decoded(data).pixels, gray[..., np.newaxis]) < 2
    with pytest.raises(InvalidImageError):
        decoded(data[:-100])
    if compression == 7:
        with pytest.raises(InvalidImageError, match="cut short"):
            decoded(data[:-2] + bytes(2))


def test_a_strip_of_one_pixel_is_not_reduced_to_nothing() -> None:
    assert decoded(encoded(Image.new("RGB", (1, 900)), "JPEG"), min_face=1e9).pixels.shape == (113, 1, 3)


# --- Refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ICO", "PCX", "PDF", "PPM", "TGA", "JPEG2000", "SGI"])
def test_other_formats_are_unsupported_even_if_pillow_knows_them(name: str) -> None:
    with pytest.raises(UnsupportedFormatError, match="jpeg, png"):
        decoded(encoded(PORTRAIT.resize((32, 32)), name))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"8BPS\0\x01" + bytes(40),
        b"\0" * 100,
        b"\0\0\0\x18ftypisom" + bytes(12),
        b"RIFF\0\0\0\0WAVE",
        b"II+\0" + bytes(40),
        bytes(range(256)),
    ],
    ids=["empty", "one byte", "svg", "psd", "zeros", "mp4", "wav", "bigtiff", "garbage"],
)
def test_what_is_no_accepted_format_is_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedFormatError):
        decoded(data)


@pytest.mark.parametrize("data", ["photo.jpg", Path("photo.jpg"), np.zeros((9, 9, 3), np.uint8)])
def test_a_path_or_pixels_are_no_data(data: Any) -> None:
    with pytest.raises(TypeError, match="the bytes of an image file"):
        decoded(data)


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
@pytest.mark.parametrize("tenths", range(2, 10))
def test_a_jpeg_that_ends_early_with_an_end_marker_is_refused(tenths: int, options: dict[str, Any]) -> None:
    """Libjpeg fills the rest with gray and only warns."""
    data = encoded(PORTRAIT, "JPEG", quality=90, **options)
    start = data.index(b"\xff\xda")

    with pytest.raises(InvalidImageError):
        decoded(data[: start + (len(data) - start) * tenths // 10] + b"\xff\xd9")


@pytest.mark.parametrize("options", [{}, {"restart_marker_rows": 1}], ids=["plain", "restarts"])
@pytest.mark.parametrize("tenths", range(2, 10))
@pytest.mark.parametrize("comment", [b"", b"\xff\xfe\0\x05end"], ids=["", "comment"])
def test_a_jpeg_that_pillow_takes_may_not_end_early(
    tenths: int, comment: bytes, options: dict[str, Any]
) -> None:
    data = encoded(PORTRAIT.convert("CMYK"), "JPEG", quality=90, subsampling="4:2:0", **options)
    start = data.index(b"\xff\xda")

    end = comment + b"\xff\xd9"
    assert difference(decoded(data[:-2] + end + b"more").pixels, RGB) < 6
    with pytest.raises(InvalidImageError):
        decoded(data[: start + (len(data) - start) * tenths // 10] + end)


@pytest.mark.parametrize("options", [{}, {"restart_marker_rows": 1}, {"progressive": True}])
@pytest.mark.parametrize("stray", [bytes(9), bytes(5) + b"\xff"])
def test_a_jpeg_with_stray_bytes_is_only_odd(options: dict[str, Any], stray: bytes) -> None:
    data = encoded(PORTRAIT, "JPEG", quality=90, **options)

    assert difference(decoded(data[:-2] + stray + data[-2:]).pixels, RGB) < 4


def test_stray_bytes_between_the_scans_of_a_jpeg_are_no_mere_oddity() -> None:
    data = sample("jpeg progressive")
    last = data.rindex(b"\xff\xc4")  # the tables of the last scan

    with pytest.raises(InvalidImageError):
        decoded(data[:last] + bytes(9) + data[last:])


@pytest.mark.parametrize("place", ["before the first restart", "at the end"])
@pytest.mark.parametrize("row", [4, 8, 14])
def test_stray_bytes_do_not_hide_that_a_jpeg_ends_early(row: int, place: str) -> None:
    data = encoded(PORTRAIT, "JPEG", quality=90, restart_marker_rows=1)
    restarts = [found.start() for found in re.finditer(rb"\xff[\xd0-\xd7]", data)]
    at, cut = restarts[0] if place == "before the first restart" else restarts[row], restarts[row]
    assert len(restarts) == 15

    with pytest.raises(InvalidImageError):
        decoded(data[:at] + bytes(12) + data[at:cut] + b"\xff\xd9")


def odd_jpeg(oddity: str) -> bytes:
    """One that decoders warn of, but decode."""
    data = sample("jpeg")
    scan = data.index(b"\xff\xda")
    end = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")
    return {
        "revision": data.replace(b"JFIF\0\1", b"JFIF\0\2"),
        "transform": data[:2] + b"\xff\xee\0\x0eAdobe\0\x64" + bytes(4) + b"\7" + data[20:],
        "coefficients": data[: end - 3] + bytes(3) + data[end:],
    }[oddity]


@pytest.mark.parametrize("oddity", ["revision", "transform", "coefficients"])
def test_an_odd_jpeg_is_decoded_but_does_not_hide_that_it_ends_early(oddity: str) -> None:
    data = odd_jpeg(oddity)

    assert difference(decoded(data).pixels, RGB) < 4
    with pytest.raises(InvalidImageError):
        decoded(data[: len(data) // 2] + b"\xff\xd9")


def lossless_jpeg(width: int, height: int) -> bytes:
    """All gray: each difference from the pixel before is none, and takes one bit."""
    frame = struct.pack(">BHHB", 8, height, width, 3) + b"\1\x11\0\2\x11\0\3\x11\0"
    segments = {0xC3: frame, 0xC4: b"\0\1" + bytes(16), 0xDA: b"\3\1\0\2\0\3\0\1\0\0"}
    head = b"".join(struct.pack(">BBH", 0xFF, kind, len(each) + 2) + each for kind, each in segments.items())
    return b"\xff\xd8" + head + bytes(width * height * 3 // 8) + b"\xff\xd9"


def test_a_lossless_jpeg_is_refused() -> None:
    """Libjpeg-turbo reduces none, but writes all its pixels into the room for fewer."""
    with pytest.raises(InvalidImageError, match="lossless"):
        decoded(lossless_jpeg(64, 64))


def test_a_jpeg_of_12_bits_is_refused_with_a_reason() -> None:
    frame = JPEG.index(b"\xff\xc0") + 4

    with pytest.raises(InvalidImageError, match="8 bits"):
        decoded(JPEG[:frame] + b"\x0c" + JPEG[frame + 1 :])


def test_a_sequential_jpeg_that_lacks_a_scan_is_refused() -> None:
    grays = [encoded(channel, "JPEG", quality=90) for channel in PORTRAIT.convert("YCbCr").split()]
    frame, scan = (grays[0].index(marker) for marker in (b"\xff\xc0", b"\xff\xda"))
    colours = struct.pack(">BBHBHHB", 0xFF, 0xC0, 17, 8, 256, 256, 3) + b"\1\x11\0\2\x11\0\3\x11\0"
    head = grays[0][:frame] + colours + grays[0][frame + 13 : scan]
    scans = [
        gray[scan : scan + 5] + bytes([number]) + gray[scan + 6 : -2] for number, gray in enumerate(grays, 1)
    ]

    assert difference(decoded(head + b"".join(scans) + b"\xff\xd9").pixels, RGB) < 4
    for kept in (1, 2):
        with pytest.raises(InvalidImageError, match="cut short"):
            decoded(head + b"".join(scans[:kept]) + b"\xff\xd9")


@pytest.mark.parametrize("frame", [0xC9, 0xCA], ids=["sequential", "progressive"])
def test_a_jpeg_in_arithmetic_code_is_refused(frame: int) -> None:
    """Where it is cut off, the decoder makes up the rest and does not even warn."""
    with pytest.raises(InvalidImageError, match="arithmetic"):
        decoded(JPEG.replace(b"\xff\xc0", bytes([0xFF, frame])))


@pytest.mark.parametrize("tenths", range(10))
@pytest.mark.parametrize("name", [*ENCODINGS, "heif"])
def test_a_picture_that_is_cut_short_is_refused(name: str, tenths: int) -> None:
    data = sample(name)

    with pytest.raises(InvalidImageError if tenths else UnsupportedFormatError):
        decoded(data[: len(data) * tenths // 10])


@pytest.mark.parametrize("name", [name for name in ENCODINGS if name != "avif"])
def test_what_comes_after_the_picture_is_no_matter(name: str) -> None:
    after = decoded(sample(name) + b"more bytes than a chunk's header")

    assert (after.pixels == decoded(sample(name)).pixels).all()


@pytest.mark.parametrize("name", ["tiff", "tiff lzw", "bmp", "gif"])
@pytest.mark.parametrize("lost", [4, 100])
def test_the_end_of_a_picture_is_missed(name: str, lost: int) -> None:
    """Also by formats without an end mark, or whose directory comes first, as in plain TIFFs of Pillow."""
    with pytest.raises(InvalidImageError):
        decoded(sample(name)[:-lost])


# Bits, PNG's number for the kind of colour, interlaced or not, bytes of 5 x 3 pixels and of the last row.
SHAPES: dict[str, tuple[int, int, int, int, int]] = {
    "1-bit gray": (1, 0, 0, 3 * 2, 2),
    "8-bit gray": (8, 0, 0, 3 * 6, 6),
    "palette": (4, 3, 0, 3 * 4, 4),
    "16-bit RGB with alpha": (16, 6, 0, 3 * 41, 41),
    "interlaced": (8, 2, 1, 4 + 4 + 4 + 10 + 2 * 7 + 16, 16),
}


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_png_whose_data_ends_early_without_a_fault_is_refused(shape: str, value: int) -> None:
    bits, colour, interlaced, length, row = SHAPES[shape]
    header = struct.pack(">IIBBBBB", 5, 3, bits, colour, 0, 0, interlaced)
    palette = [chunk(b"PLTE", bytes(48))] if colour == 3 else []
    rows = bytes([value]) * length  # each byte a filter or a sample

    assert decoded(png(header, zlib.compress(rows), *palette)).pixels.shape == (3, 5, 3)
    for lost in (1, row, length - row, length):
        with pytest.raises(InvalidImageError):
            decoded(png(header, zlib.compress(rows[:-lost]), *palette))


def test_an_interlaced_png_may_have_no_pixels_for_some_passes() -> None:
    dot = png(struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 1), zlib.compress(b"\0\7"))

    assert decoded(dot).pixels.tolist() == [[[7, 7, 7]]]


@pytest.mark.parametrize("rows", [64, 256], ids=["of several", "alone"])
def test_a_tiff_whose_last_jpeg_strip_is_cut_is_refused(rows: int) -> None:
    data = encoded(PORTRAIT, "TIFF", compression="jpeg", quality=90, tiffinfo={278: rows})
    end = data.rindex(b"\xff\xd9", 0, data.index(b"\xff\xd8\xff\xdb"))  # its tables come after it

    assert difference(decoded(data).pixels, RGB) < 5
    with pytest.raises(InvalidImageError, match="cut short"):
        decoded(data[: end - 2_000] + bytes(2_002) + data[end + 2 :])


def test_a_jpeg_strip_may_be_padded() -> None:
    data = bytearray(encoded(PORTRAIT, "TIFF", compression="jpeg", quality=90, tiffinfo={278: 256}))
    at = data.index(struct.pack("<HHI", 279, 4, 1)) + 8
    (length,) = struct.unpack_from("<I", data, at)
    struct.pack_into("<I", data, at, length + 100)

    assert difference(decoded(bytes(data)).pixels, RGB) < 5


@pytest.mark.parametrize("name", [*ENCODINGS, "heif"])
def test_damaged_bytes_give_a_picture_or_a_refusal(name: str) -> None:
    data = sample(name)
    random = np.random.default_rng(7)
    for _ in range(20):
        damaged = bytearray(data)
        for at in random.integers(12, len(data), 10):
            damaged[at] = random.integers(256)
        with suppress(ImageError):
            assert decoded(bytes(damaged)).pixels.dtype == np.uint8


def test_the_message_tells_nothing_of_the_inside() -> None:
    data = bytearray(encoded(PORTRAIT, "PNG"))
    data[60:80] = bytes(20)

    with pytest.raises(InvalidImageError) as caught:
        decoded(bytes(data))

    assert str(caught.value) == "the PNG image does not decode"


JPEG = encoded(Image.new("RGB", (16, 16)), "JPEG")
AVIF = encoded(Image.new("RGB", (64, 64)), "AVIF", speed=10)
HUGE = {
    "jpeg": resized_jpeg(JPEG, 60_000, 60_000),
    "png": png(struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0), zlib.compress(b"")),
    "gif": gif((60_000, 60_000), (1, 1)),
    "gif frame beyond its screen": gif((1, 1), (60_000, 60_000)),
    "bmp": bmp(60_000, 60_000),
    "bmp upside down": bmp(60_000, -60_000),
    "tiff": gray_tiff(60_000, 60_000),
    "webp": webp_canvas(60_000, 60_000, encoded(PORTRAIT, "WEBP")[12:]),
    "avif": resized_container(AVIF, 60_000, 60_000),
    "heif": resized_container((DATA / "astronaut-rotated.heic").read_bytes(), 60_000, 60_000),
}


@pytest.mark.parametrize("data", HUGE.values(), ids=HUGE)
def test_too_many_pixels_are_told_from_the_header(data: bytes) -> None:
    with pytest.raises(ImageTooLargeError) as caught:
        decoded(data, max_pixels=64_000_000)

    assert (caught.value.width, caught.value.height, caught.value.limit) == (60_000, 60_000, 64_000_000)
    assert "60000 x 60000" in str(caught.value)


def test_the_limit_itself_is_allowed() -> None:
    data = encoded(Image.new("RGB", (10, 10)), "PNG")

    assert decoded(data, max_pixels=100).pixels.shape == (10, 10, 3)
    with pytest.raises(ImageTooLargeError):
        decoded(data, max_pixels=99)


def test_no_library_has_a_lower_limit_than_the_caller() -> None:
    with pytest.raises(ImageTooLargeError) as caught:
        decoded(resized_jpeg(JPEG, 14_000, 14_000), max_pixels=178_000_000)

    assert caught.value.limit == 178_000_000


def test_avif_data_larger_than_its_container_claims_counts() -> None:
    data = resized_container(encoded(Image.new("RGB", (640, 480)), "AVIF", speed=10), 10, 10)

    with pytest.raises(ImageTooLargeError, match="640 x 480"):
        decoded(data, max_pixels=10_000)


GRAY: dict[int, int | tuple[int, int]] = {256: 8, 257: 8, 258: 8, 262: 1, 273: 8, 278: 8, 279: 64}
LYING = {
    "jpeg without pixels": resized_jpeg(JPEG, 0, 16),
    "jpeg of many comments": JPEG[:2] + b"\xff\xfe\0\x02" * 5_000 + JPEG[2:],
    "jpeg with two frames": JPEG[: JPEG.index(b"\xff\xc0")]
    + JPEG[JPEG.index(b"\xff\xc0") :].replace(
        b"\xff\xc4", JPEG[JPEG.index(b"\xff\xc0") : JPEG.index(b"\xff\xc0") + 19] + b"\xff\xc4", 1
    ),
    "png without pixels": png(struct.pack(">IIBBBBB", 0, 5, 8, 2, 0, 0, 0), zlib.compress(b"")),
    "png of many chunks": png(
        struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0), zlib.compress(b"\0\0"), chunk(b"IDAT", b"") * 60_000
    ),
    "gif of many comments": gif((1, 1), (1, 1), b"!\xfe\x01a\0" * 30_000),
    "gif of a long comment": gif((1, 1), (1, 1), b"!\xfe" + b"\x01a" * 30_000 + b"\0"),
    "gif without a frame": b"GIF89a" + bytes(7) + b";",
    "gif that ends before its frame": b"GIF89a" + bytes(7),
    "gif that ends in a comment": b"GIF89a" + bytes(7) + b"!\xfe\x09a",
    "bmp without data": bmp(1_000, 1_000),
    "tiff without data": gray_tiff(1_000, 1_000),
    "tiff of two photometric interpretations": tiff(GRAY | {262: (2, 8)}, bytes(1_000)),
    "tiff of a signed number": tiff(GRAY, bytes(1_000)).replace(b"\2\1\4\0", b"\2\1\x09\0"),
    "tiff of too many strips": gray_tiff(8, 8, strip_offsets=(200, 150), rows_per_strip=8),
    "tiff of too few strips": gray_tiff(8, 8, rows_per_strip=4),
    "tiff of old jpeg": gray_tiff(8, 8, compression=6),
    "tiff of jpeg that does not tell its length": tiff(
        {256: 8, 257: 8, 258: 8, 259: 7, 262: 1, 273: 8, 278: 8}, bytes(1_000)
    ),
    # 6 is where its directory begins, and how many tags that has.
    "tiff whose directory begins in its header": b"MM\0*\0\0\0\6"
    + b"".join(
        struct.pack(">HHII", tag, 4, 1, value)
        for tag, value in {256: 8, 257: 8, 258: 8, 262: 1, 273: 84, 279: 64}.items()
    )
    + bytes(100),
    "tiff without a size": tiff({258: 8, 259: 1, 262: 1, 273: 8, 279: 100}),
    "webp picture larger than its canvas": webp_canvas(8, 8, encoded(PORTRAIT, "WEBP")[12:]),
    "webp without pixels, with their alpha": webp_canvas(
        8, 8, b"ALPH\0\0\0\0VP8 \x0a\0\0\0\0\0\0\x9d\x01\x2a\0\0\x08\0"
    ),
    "heif picture larger than its container": resized_container(
        (DATA / "astronaut-rotated.heic").read_bytes(), 8, 8
    ),
    "avif without a place for its data": AVIF.replace(b"iloc", b"free"),
    "avif without a description": b"\0\0\0\x10ftypavif" + bytes(4),
}


@pytest.mark.parametrize("data", LYING.values(), ids=LYING)
def test_headers_that_lie_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidImageError):
        decoded(data, max_pixels=64_000_000)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({320: (250, 8), 532: (250, 8)}, "overlap"),
        ({322: 60_000, 323: 60_000, 324: 8, 325: 100}, "do not fit"),
    ],
    ids=["overlapping tags", "one vast tile"],
)
def test_a_tiff_that_asks_too_much_of_a_decoder_reaches_none(
    tags: dict[int, int | tuple[int, int]], reason: str
) -> None:
    with pytest.raises(InvalidImageError, match=reason):
        decoded(tiff(GRAY | tags, bytes(1_000)))


def test_a_progressive_jpeg_of_endless_scans_is_refused() -> None:
    data = encoded(Image.new("L", (64, 64)), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]

    assert decoded(data).width == 64
    with pytest.raises(InvalidImageError, match="scans"):
        decoded(data[:-2] + scan * 40 + data[-2:])


def test_metadata_is_not_unpacked() -> None:
    bomb = zlib.compress(bytes(5_000_000))
    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    data = png(
        header, zlib.compress(b"\0\x07"), chunk(b"zTXt", b"a\0\0" + bomb), chunk(b"iCCP", b"a\0\0" + bomb)
    )

    assert decoded(data).pixels.tolist() == [[[7, 7, 7]]]


def test_a_size_that_is_too_large_is_the_last_thing_read() -> None:
    """What follows it is cut off, or would be refused for its sheer number."""
    jpeg = resized_jpeg(JPEG, 60_000, 60_000)
    frame_end = jpeg.index(b"\xff\xc0") + 19
    screen = b"GIF89a" + struct.pack("<HHBBB", 60_000, 60_000, 0, 0, 0)
    for data in (jpeg[:frame_end], HUGE["png"][:33], screen + b"!\xfe\x01a\0" * 30_000):
        with pytest.raises(ImageTooLargeError):
            decoded(data)


def test_gif_blocks_are_counted_together() -> None:
    comment = b"!\xfe" + b"\x01a" * 1_000 + b"\0"

    with pytest.raises(InvalidImageError, match="blocks"):
        decoded(gif((1, 1), (1, 1), comment * 30))


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def container(*described: bytes) -> bytes:
    """A HEIF without a picture."""
    size = box(b"ispe", bytes(4) + struct.pack(">II", 8, 8))
    return box(b"ftyp", b"heic" + bytes(4)) + box(b"meta", bytes(4) + size + b"".join(described))


def references(*links: tuple[bytes, int, int]) -> bytes:
    """A box of (kind, one item, the other)."""
    return box(b"iref", bytes(4) + b"".join(box(kind, struct.pack(">HHH", a, 1, b)) for kind, a, b in links))


Field = tuple[int, int]  # value and bits


# A box that tells where the one item's data lies, given its start and length.
PLACES: dict[str, Callable[[int, int], bytes]] = {
    "version 0": lambda start, length: (
        bytes(4) + struct.pack(">BBHHHHII", 0x44, 0, 1, 1, 0, 1, start, length)
    ),
    "to the end": lambda start, _: bytes(4) + struct.pack(">BBHHHHII", 0x44, 0, 1, 1, 0, 1, start, 0),
    "version 1, from a base": lambda start, length: (
        b"\1\0\0\0" + struct.pack(">BBHHHHIHIII", 0x44, 0x44, 1, 1, 0, 0, start, 1, 7, 0, length)
    ),
    "version 2": lambda start, length: (
        b"\2\0\0\0" + struct.pack(">BBIIHHHII", 0x44, 0, 1, 1, 0, 0, 1, start, length)
    ),
}


def avif_of(*fields: Field, place: str = "version 0") -> bytes:
    """An AVIF that claims 8 x 8 pixels, around a sequence header of these fields."""
    bits = "".join(f"{value:0{count}b}" for value, count in fields)
    payload = int(bits.ljust(8 * 64, "0"), 2).to_bytes(64, "big")
    unit = bytes([0x0A, len(payload)]) + payload
    size = box(b"ispe", bytes(4) + struct.pack(">II", 8, 8))

    def head(start: int) -> bytes:
        located = box(b"iloc", PLACES[place](start, len(unit)))
        return box(b"ftyp", b"avif" + bytes(4)) + box(b"meta", bytes(4) + size + located)

    return head(len(head(0)) + 8) + box(b"mdat", unit)


# A size, and what may come before it, as the AV1 specification has them (5.5).
TIMING = [(1, 1), (2**64 - 1, 64)]
MODEL = [(1, 1), (9, 5), (2**42 - 1, 42)]  # ten bits for a delay
SIZE = [(9, 4), (8, 4), (639, 10), (479, 9)]
BEFORE_SIZE: dict[str, list[Field]] = {
    "still": [(1, 1), (31, 5)],
    "plain": [(0, 1), (0, 1), (0, 1), (0, 5), (4095, 12), (7, 5)],
    "tier": [(0, 1), (0, 1), (0, 1), (0, 5), (4095, 12), (8, 5), (1, 1)],
    "timing": [(0, 1), *TIMING, (0, 1), (0, 1), (0, 1), (0, 5), (0, 12), (7, 5)],
    "pace": [(0, 1), *TIMING, (1, 1), (0b00101, 5), (0, 1), (0, 1), (0, 5), (0, 12), (7, 5)],
    "longest pace": [(0, 1), *TIMING, (1, 1), (0, 32), (0, 1), (0, 1), (0, 5), (0, 12), (7, 5)],
    "model": [
        *[(0, 1), *TIMING, (0, 1), *MODEL, (0, 1), (1, 5)],
        *[(0, 12), (7, 5), (1, 1), (2**21 - 1, 21)],
        *[(0, 12), (7, 5), (0, 1)],
    ],
    "display": [(0, 1), (0, 1), (1, 1), (1, 5), (0, 12), (7, 5), (1, 1), (15, 4), (0, 12), (7, 5), (0, 1)],
}


@pytest.mark.parametrize("fields", BEFORE_SIZE.values(), ids=BEFORE_SIZE)
def test_the_size_is_found_in_any_sequence_header_of_avif(fields: list[Field]) -> None:
    assert read_header(avif_of((0, 4), *fields, *SIZE)).size == (640, 480)


@pytest.mark.parametrize("place", PLACES)
def test_the_data_of_an_avif_is_found_wherever_it_lies(place: str) -> None:
    assert read_header(avif_of((0, 4), *BEFORE_SIZE["still"], *SIZE, place=place)).size == (640, 480)


@pytest.mark.parametrize("length", [0, 1], ids=["to the end", "of 64 bits"])
def test_the_last_box_of_a_container_may_tell_its_length_otherwise(length: int) -> None:
    last = struct.pack(">I4sQ", length, b"free", 20) + bytes(4)
    assert read_header(avif_of((0, 4), *BEFORE_SIZE["still"], *SIZE) + last).size == (640, 480)


@pytest.mark.parametrize(("compatible", "name"), [(b"heic", "heif"), (b"avif", "avif")])
def test_the_brand_of_both_containers_does_not_tell_the_format(compatible: bytes, name: str) -> None:
    brands = b"mif1" + bytes(4) + compatible + b"miaf"
    assert sniff(struct.pack(">I", 24) + b"ftyp" + brands + b"avif") == name


def test_a_heif_with_long_item_numbers_is_not_made_of_itself_either() -> None:
    links = box(b"iref", b"\1\0\0\0" + box(b"auxl", struct.pack(">IHI", 1, 1, 1)))

    with pytest.raises(InvalidImageError, match="made of itself"):
        decoded(container(links))


def test_metadata_of_a_heif_is_attached_to_a_few_pictures_only() -> None:
    header = read_header(container(references(*[(b"cdsc", 1, 2)] * 20)))

    assert header.body.count(b"cdsc") == 8


def test_more_sizes_than_a_container_needs_are_refused() -> None:
    size = box(b"ispe", bytes(4) + struct.pack(">II", 8, 8))

    with pytest.raises(InvalidImageError, match="pieces"):
        decoded(container(size * 5_000))


def test_more_references_than_a_container_needs_are_refused() -> None:
    with pytest.raises(InvalidImageError, match="pieces"):
        decoded(container(*[references(*[(b"cdsc", 1, 2)] * 250)] * 20))


@pytest.mark.parametrize("kind", [b"iden", b"iovl", b"mski"])
@pytest.mark.parametrize("version", [2, 3])
def test_heif_items_that_the_library_is_not_safe_with_are_refused(kind: bytes, version: int) -> None:
    item = bytes([version, 0, 0, 0]) + bytes(2 * version) + kind + b"\0"

    with pytest.raises(InvalidImageError, match="made of others"):
        decoded(container(box(b"infe", item)))


@pytest.mark.parametrize(
    "links",
    [
        [(b"auxl", 1, 1)],
        [(b"auxl", 2, 1), (b"dimg", 2, 1)],  # libheif 1.23.0 waits for itself
        [(b"dimg", 1, 2), (b"dimg", 2, 3), (b"auxl", 1, 3)],
        [(b"dimg", item, item + 1) for item in range(1, 20)],
    ],
)
def test_a_heif_that_is_made_of_itself_is_refused(links: list[tuple[bytes, int, int]]) -> None:
    with pytest.raises(InvalidImageError, match="made of itself"):
        decoded(container(references(*links)))


def test_a_heif_may_be_made_of_a_grid_with_alpha_and_other_auxiliary_pictures() -> None:
    tone_mapped = [(b"dimg", 50, 10), (b"dimg", 50, 30)]
    tiles = [(b"dimg", 10, 11), (b"dimg", 10, 12), (b"dimg", 20, 21), (b"dimg", 20, 22)]
    more = [(b"auxl", 20, 10), (b"auxl", 30, 10), (b"thmb", 40, 10), (b"cdsc", 41, 10)]

    assert read_header(container(references(*tone_mapped, *tiles, *more))).size == (8, 8)


def test_a_large_progressive_jpeg_may_have_fewer_scans() -> None:
    data = encoded(Image.new("L", (64, 64)), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    many = data[:-2] + scan * 14 + data[-2:]
    frame = many.index(b"\xff\xc2") + 5

    assert decoded(many).width == 64
    with pytest.raises(InvalidImageError, match="too many for its size"):
        decoded(many[:frame] + struct.pack(">HH", 7_000, 7_000) + many[frame + 4 :], max_pixels=64_000_000)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (640, 480, 40),
        (4_000, 3_000, 160),
        (4_000, 1_000, 160),
        (800, 5_000, 200),
        (9_600, 240, 60),
        (9_600, 90, 40),
    ],
)
def test_the_smallest_face_by_default_fits_in_a_long_strip(width: int, height: int, expected: float) -> None:
    assert default_min_face_size(width, height) == pytest.approx(expected)
