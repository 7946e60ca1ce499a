"""Odd, broken and malicious input through the real app: each gets its answer, and the next is served."""

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.api.test_errors import URL, assert_problem, png_chunk, png_claiming

TESTS = Path(__file__).parents[1]
PORTRAIT = Image.open(TESTS / "data" / "astronaut.jpg").convert("RGB").resize((96, 96))
CORPUS = sorted((TESTS / "corpus").glob("*"))


def encoded(name: str, image: Image.Image = PORTRAIT, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def damaged_exif() -> bytes:
    exif = b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"\x01\x12" * 20
    jpeg = encoded("JPEG")
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def sixteen_bit() -> Image.Image:
    return Image.fromarray(np.asarray(PORTRAIT.convert("L")).astype(np.uint16) * 257)


GRAY = Image.new("L", (1, 1), 128)
ODD = {
    "one pixel": encoded("PNG", GRAY),
    "one pixel of jpeg": encoded("JPEG", GRAY),
    "one pixel of avif": encoded("AVIF", GRAY.convert("RGB"), speed=10),
    "one pixel wide": encoded("PNG", GRAY.resize((1, 65_535))),
    "one pixel high": encoded("PNG", GRAY.resize((65_535, 1))),
    "one pixel wide, jpeg": encoded("JPEG", GRAY.resize((1, 65_500))),
    "all white": encoded("JPEG", Image.new("RGB", (640, 480), "white")),
    "16 bits": encoded("PNG", sixteen_bit()),
    "16 bits of tiff": encoded("TIFF", sixteen_bit()),
    "cmyk": encoded("JPEG", PORTRAIT.convert("CMYK")),
    "cmyk of tiff": encoded("TIFF", PORTRAIT.convert("CMYK")),
    "damaged exif": damaged_exif(),
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_odd_pictures_are_pictures(client: httpx.Client, data: bytes) -> None:
    response = client.post(URL, content=data)

    assert response.status_code == 200
    assert len(response.json()["faces"]) <= 1


@pytest.mark.parametrize("size", [12, 65_535])
@pytest.mark.parametrize("data", [ODD["one pixel"], ODD["one pixel wide"], ODD["damaged exif"]])
def test_any_size_may_be_looked_for_in_any_picture(client: httpx.Client, data: bytes, size: int) -> None:
    for accept in ("application/json", "image/png"):
        response = client.post(URL, content=data, params={"min_face_size": size}, headers={"accept": accept})
        assert response.status_code == 200


def test_samples_without_a_white_are_refused(client: httpx.Client) -> None:
    for kind in (np.float32, np.int32):
        data = encoded("TIFF", Image.fromarray(np.full((8, 8), np.nan if kind is np.float32 else 7, kind)))
        assert_problem(client.post(URL, content=data), 422, "invalid_image")


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "heif"])
def test_a_picture_cut_short_anywhere_is_refused(client: httpx.Client, name: str) -> None:
    heif = TESTS / "data" / "astronaut-rotated.heic"
    data = heif.read_bytes() if name == "heif" else encoded(name)
    for tenths in range(1, 10):
        assert_problem(client.post(URL, content=data[: len(data) * tenths // 10]), 422, "invalid_image")


@pytest.mark.parametrize(
    "value", ["0", "-1", "11.9", "65536", "1e309", "nan", "inf", "-inf", "", "1_0", "0x20"]
)
def test_numbers_beyond_their_edges_are_refused(client: httpx.Client, value: str) -> None:
    assert_problem(client.post(URL, params={"min_face_size": value}), 422, "invalid_parameter")


def bombs() -> dict[str, bytes]:
    """Small files that unpack to much more than they are worth."""
    gray = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    flood = zlib.compress(bytes(50_000_000), 9)
    head, end = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", gray), png_chunk(b"IEND", b"")
    return {
        "png of more rows than it claims": head + png_chunk(b"IDAT", flood) + end,
        "png with a flood of text": head
        + png_chunk(b"zTXt", b"a\0\0" + flood)
        + png_chunk(b"IDAT", zlib.compress(bytes(72)))
        + end,
        "png of the largest size": png_claiming(65_535, 976),
    }


def test_bombs_get_an_answer(client: httpx.Client) -> None:
    for data in bombs().values():
        assert client.post(URL, content=data).status_code in {200, 422}


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_what_fuzzing_found_is_answered(client: httpx.Client, path: Path) -> None:
    assert_problem(client.post(URL, content=path.read_bytes()), 422, "invalid_image")
    assert client.post(URL, content=ODD["16 bits of tiff"]).status_code == 200
