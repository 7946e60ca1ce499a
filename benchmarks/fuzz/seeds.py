"""Small honest pictures of every accepted format, made from the portrait, and what lies in other folders."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from service.vision.errors import UnsupportedFormatError
from service.vision.headers import sniff

TESTS = Path(__file__).parents[2] / "tests"
MOST_BYTES = 200_000


def seeds(*folders: Path) -> dict[str, list[bytes]]:
    """Pictures by the name of their format. folders: where to look for more, if they are there."""
    found: dict[str, list[bytes]] = {}
    for data in [*_made(), *_read(TESTS / "data", *folders)]:
        try:
            found.setdefault(sniff(data), []).append(data)
        except UnsupportedFormatError:
            found.setdefault("other", []).append(data)
    return found


def _made() -> Iterator[bytes]:
    portrait = Image.open(TESTS / "data" / "astronaut.jpg").convert("RGB").resize((96, 96))
    gray, palette, deep = portrait.convert("L"), portrait.quantize(64), _sixteen_bit(portrait)
    rgba = portrait.convert("RGBA")
    rgba.putalpha(gray)
    exif = Image.Exif()
    exif[0x112] = 6
    frames: dict[str, Any] = {"save_all": True, "append_images": [portrait.rotate(90), portrait.rotate(180)]}
    plain: dict[str, Any] = {}
    for options in (
        plain,
        {"progressive": True},
        {"exif": exif.tobytes()},
        {"subsampling": 0},
        {"optimize": True},
    ):
        yield _encoded(portrait, "JPEG", **options)
    yield from (_encoded(image, "JPEG") for image in (gray, portrait.convert("CMYK")))
    yield from (_encoded(image, "PNG") for image in (portrait, gray, palette, rgba, deep, gray.convert("1")))
    yield _encoded(portrait, "PNG", exif=exif.tobytes(), **frames)
    for options in (plain, {"lossless": True}, {"exif": exif.tobytes()}, frames):
        yield _encoded(rgba if "lossless" in options else portrait, "WEBP", **options)
    yield from (_encoded(rgba, "WEBP"), _encoded(portrait, "GIF"), _encoded(palette, "GIF", **frames))
    yield from (_encoded(image, "BMP") for image in (portrait, palette, gray.convert("1")))
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield _encoded(portrait, "TIFF", compression=compression)
    yield from (_encoded(image, "TIFF") for image in (rgba, deep, palette, portrait.convert("CMYK")))
    yield _encoded(gray.convert("1"), "TIFF", compression="group4")
    yield from (_encoded(rgba, "AVIF", speed=10), _encoded(portrait, "AVIF", speed=10, **frames))


def _sixteen_bit(picture: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)


def _encoded(picture: Image.Image, name: str, **options: Any) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, name, **options)
    return buffer.getvalue()


def _read(*folders: Path) -> Iterator[bytes]:
    for folder in folders:
        for path in sorted(folder.glob("*")):
            if path.is_file() and 0 < path.stat().st_size <= MOST_BYTES:
                yield path.read_bytes()
