"""Image bytes to an upright RGB array: the formats of `headers.ACCEPTED_FORMATS`, and no surprise in cost."""

import re
import struct
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from io import BytesIO

import cv2
import numpy as np
import pi_heif
import simplejpeg

# The unused one registers a format that Pillow would otherwise find by loading all its plugins at first need.
from PIL import AvifImagePlugin, Image, ImageFile, TiffImagePlugin, UnidentifiedImageError  # noqa: F401

from service.vision.errors import ImageError, InvalidImageError
from service.vision.headers import read_header
from service.vision.jpeg import without_end
from service.vision.png import png_is_whole
from service.vision.tiff import exif_orientation
from service.vision.types import DecodedImage, Header, UInt8Array

# The service runs its own pool of threads; a decoder that starts more would overrun the CPU quota. Both
# libraries take these from module globals only.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
pi_heif.options.DECODE_THREADS = 1
# Thumbnails, depth maps and other auxiliary pictures are not looked at.
pi_heif.options.THUMBNAILS = False
pi_heif.options.DEPTH_IMAGES = False
pi_heif.options.AUX_IMAGES = False

# The detector's smallest reliable face at a reduced scale, in pixels.
_KEPT_FACE = 48
_STRIP_PIXELS = 1 << 20
# EXIF orientations from here on are transposed: their stored width is the upright height.
_SWAPS_SIDES = 5
# How each is mirrored after that: cv2.flip's 0 is top to bottom, 1 left to right, -1 both.
_FLIPS = {1: None, 2: 1, 3: -1, 4: 0, 5: None, 6: 1, 7: -1, 8: 0}


# Turns a header and the side of the smallest face into the picture: `decode_picture`, or another process.
Decoder = Callable[[Header, float], DecodedImage]


def decode(
    data: bytes,
    *,
    max_pixels: int,
    min_face_size: Callable[[int, int], float],
    decoder: Decoder | None = None,
) -> DecodedImage:
    """Decode the first picture in data and turn it upright.

    max_pixels: the most width x height that is decoded; the header is checked before any pixel is.
    min_face_size: given the upright width and height, the side in pixels of the smallest face that will be
        accepted. A JPEG is decoded at the smallest of the scales 1, 1/2, 1/4, 1/8 at which that face keeps
        48 pixels.
    decoder: what runs the decoder libraries, if not `decode_picture` in this thread.

    Returns pixels (h, w, 3) uint8 RGB, not always writable; transparency over white, more than 8 bits scaled
    down, colour profiles ignored. A picture that is cut short is refused, not decoded in part: half a face
    must not be classified.

    Raises UnsupportedFormatError, InvalidImageError or ImageTooLargeError, and TypeError for other data.
    """
    if not isinstance(data, bytes):
        raise TypeError(f"data are the bytes of an image file, not {type(data).__name__}")
    header = read_header(data, max_pixels)
    min_face = min_face_size(*_upright_size(header.size, header.orientation or 1))
    return (decoder or decode_picture)(header, min_face)


def decode_picture(header: Header, min_face: float) -> DecodedImage:
    """Hand the header's body to the decoder library of its format. Raises InvalidImageError."""
    try:
        return _DECODERS.get(header.format, _decode_with_pillow)(header, min_face)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        message = f"the {header.format.upper()} image is damaged, or of a kind that is not supported"
        raise InvalidImageError(message) from error
    except Exception as error:
        # Decoders answer bad bytes with OSError, SyntaxError, struct.error, MemoryError and a dozen more.
        raise InvalidImageError(f"the {header.format.upper()} image does not decode") from error


def _decode_with_pillow(header: Header, min_face: float) -> DecodedImage:
    # Closing frees its pixels, before turning makes another copy.
    with closing(Image.open(BytesIO(header.body), formats=[header.format])) as image:
        if image.size != header.size and header.format != "avif":
            raise InvalidImageError(f"the {header.format.upper()} image contradicts itself about its size")
        size = image.size
        orientation = header.orientation or exif_orientation(image.info.get("exif", b""))
        if header.format == "jpeg":
            divisor = _divisor(min_face)
            image.draft(None, (max(1, size[0] // divisor), max(1, size[1] // divisor)))  # or it reduces less
        image.load()
        if header.format == "png" and _may_lack_rows(image) and not png_is_whole(header.body):
            raise InvalidImageError("the PNG image is cut short")
        if header.format == "bmp" and image.mode == "RGBA" and image.getchannel("A").getbbox() is None:
            image.putalpha(255)  # programs that leave the fourth byte empty name it alpha all the same
        pixels = _rgb(image, header.bits)
    return _turned(pixels, size, header.format, orientation)


def _may_lack_rows(image: Image.Image) -> bool:
    """Whether the last row is as Pillow began with it; of interlaced pictures that says nothing."""
    width, height = image.size
    return "interlace" in image.info or not np.asarray(image.crop((0, height - 1, width, height))).any()


def _decode_jpeg(header: Header, min_face: float) -> DecodedImage:
    """By libjpeg-turbo itself, three times as fast; Pillow takes what it finds odd."""
    divisor = _divisor(min_face)
    size = -(-header.size[0] // divisor), -(-header.size[1] // divisor)
    try:
        pixels = _jpeg_pixels(header.body, size)
    except ValueError as error:
        if any(loss in str(error) for loss in _JPEG_LOSSES):
            raise
        if header.passes == 1:  # Pillow hears no warning
            header = replace(header, body=without_end(header.body))
        return _decode_with_pillow(header, min_face)
    return _turned(pixels, header.size, "jpeg", header.orientation or 1)


def _jpeg_pixels(body: bytes, size: tuple[int, int]) -> UInt8Array:
    """Raises ValueError at the first thing that is odd, other than bytes between the picture and its end."""
    try:
        return _unwarned(body, size)
    except ValueError as error:
        stray = _STRAY_BYTES.search(str(error))
        if stray is None:
            raise
    # What is next may be that the picture ends too early: the decoder tells one thing at a time.
    end = body.find(b"\xff\xd9")
    body = body[:end].rstrip(b"\xff")[: -int(stray[1])] + body[end:]
    return _unwarned(body, size)


def _unwarned(body: bytes, size: tuple[int, int]) -> UInt8Array:
    return np.asarray(simplejpeg.decode_jpeg(body, "RGB", min_width=size[0], min_height=size[1]), np.uint8)


def _decode_gif(header: Header, min_face: float) -> DecodedImage:
    """What the first frame leaves uncovered is transparent."""
    frame = replace(header, size=struct.unpack_from("<HH", header.body, 6))
    image = _decode_with_pillow(frame, min_face)
    if frame.size == header.size:
        return image
    return _turned(_on_canvas(image.pixels, header), header.size, "gif", 1)


def _decode_webp(header: Header, min_face: float) -> DecodedImage:  # noqa: ARG001
    pixels = np.asarray(cv2.imdecode(np.frombuffer(header.body, np.uint8), cv2.IMREAD_UNCHANGED), np.uint8)
    if pixels.shape[2] == 4:
        pixels = _over_white_bgra(pixels)
    else:
        pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, pixels), np.uint8)  # in its place
    if pixels.shape[1::-1] != header.size:
        pixels = _on_canvas(pixels, header)
    return _turned(pixels, header.size, "webp", header.orientation or 1)


def _decode_heif(header: Header, min_face: float) -> DecodedImage:  # noqa: ARG001
    """The library turns the picture itself, so EXIF's orientation is reported and not applied again."""
    heif = pi_heif.open_heif(header.body)
    orientation = exif_orientation(heif.info["exif"] or b"")
    # Gray of more than 8 bits comes scaled to 16, colour to 8. The library's memory goes when heif does.
    if heif.mode == "RGB":
        pixels = np.array(heif)
    else:
        image = heif.to_pillow()
        del heif
        pixels = _rgb(image, bits=16)
    height, width = pixels.shape[:2]
    return DecodedImage(pixels, width, height, "heif", orientation)


_DECODERS: dict[str, Decoder] = {
    "gif": _decode_gif,
    "jpeg": _decode_jpeg,
    "webp": _decode_webp,
    "heif": _decode_heif,
}
# What libjpeg-turbo says where pixels are missing or made up. The rest of its warnings cost nothing but form.
_JPEG_LOSSES = (
    "premature end",
    "Premature end",
    "bad Huffman code",
    "instead of RST",
    "extraneous bytes",
)
_STRAY_BYTES = re.compile("([0-9]+) extraneous bytes before marker 0xd9")


def _turned(pixels: UInt8Array, stored: tuple[int, int], name: str, orientation: int) -> DecodedImage:
    width, height = _upright_size(stored, orientation)
    return DecodedImage(_upright(pixels, orientation), width, height, name, orientation)


def _upright_size(stored: tuple[int, int], orientation: int) -> tuple[int, int]:
    width, height = stored
    return (width, height) if orientation < _SWAPS_SIDES else (height, width)


def _divisor(min_face: float) -> int:
    """Of the smallest scale of a JPEG that keeps the smallest face detectable."""
    return next((d for d in (8, 4, 2) if min_face / d >= _KEPT_FACE), 1)


def _rgb(image: Image.Image, bits: int) -> UInt8Array:
    """(h, w, 3) from any mode, strip by strip: no second copy of the whole picture in between."""
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = image if rows >= height else image.crop((0, top, width, bottom))
        pixels[top:bottom] = _rgb_strip(strip, bits)
    return pixels


def _rgb_strip(strip: Image.Image, bits: int) -> UInt8Array:
    if strip.mode.startswith("I;16"):
        samples = np.asarray(strip, np.uint16)
        levels = (samples >> (bits - 8)).astype(np.uint8)
        if (key := strip.info.get("transparency")) is not None:
            levels[samples == key] = 255
        return levels[..., np.newaxis]  # (h, w, 1), for all three channels
    if strip.mode == "L" and bits < 8 and "transparency" in strip.info:
        strip.info["transparency"] *= 255 // ((1 << bits) - 1)  # Pillow scales the samples, not their key
    if strip.mode == "RGB" and bits == 16 and "transparency" in strip.info:
        # Here it keeps the upper half of each sample, and would compare it with the lower half of the key.
        strip.info["transparency"] = tuple(sample >> 8 for sample in strip.info["transparency"])
    if strip.has_transparency_data:
        strip = _over_white(strip)
    return np.asarray(strip.convert("RGB"), np.uint8)


def _over_white(strip: Image.Image) -> Image.Image:
    # The premultiplied modes convert to their plain ones only.
    plain = strip.convert({"La": "LA", "RGBa": "RGBA"}.get(strip.mode, strip.mode))
    canvas = Image.new("RGBA", strip.size, "white")
    canvas.alpha_composite(plain.convert("RGBA"))
    return canvas


def _over_white_bgra(pixels: UInt8Array) -> UInt8Array:
    """RGB of BGRA."""
    height, width = pixels.shape[:2]
    canvas = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = pixels[top : top + rows]
        alpha = cv2.merge([strip[..., 3]] * 3)
        shown = cv2.multiply(cv2.cvtColor(strip, cv2.COLOR_BGRA2RGB), alpha, scale=1 / 255)
        canvas[top : top + rows] = cv2.add(shown, cv2.bitwise_not(alpha))
    return canvas


def _on_canvas(pixels: UInt8Array, header: Header) -> UInt8Array:
    """The picture at its offset, white about it."""
    (left, top), (width, height) = header.offset, header.size
    canvas = np.full((height, width, 3), 255, np.uint8)
    canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return canvas


def _upright(pixels: UInt8Array, orientation: int) -> UInt8Array:
    """Undo an EXIF orientation, 1..8."""
    place = None
    if orientation >= _SWAPS_SIDES:
        place = pixels = np.asarray(cv2.transpose(pixels), np.uint8)
    flip = _FLIPS[orientation]
    return pixels if flip is None else np.asarray(cv2.flip(pixels, flip, place), np.uint8)
