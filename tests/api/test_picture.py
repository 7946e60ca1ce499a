"""The annotated picture, and the timings that travel in a header."""

import io
import re

import httpx
import numpy as np
import pytest
from PIL import Image

from service.vision.types import UInt8Array

URL = "/detect-emotions"
STAGES = ["queue", "decode", "detect", "crop", "classify", "draw", "total"]


def picture(response: httpx.Response) -> UInt8Array:
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(io.BytesIO(response.content)).convert("RGB"))


def jpeg(image: Image.Image, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


def timed_stages(response: httpx.Response) -> list[str]:
    parts = response.headers["server-timing"].split(", ")
    assert all(re.fullmatch(r"[a-z]+;dur=\d+\.\d+", part) for part in parts)
    return [part.partition(";")[0] for part in parts]


def test_a_picture_that_no_jpeg_can_hold_is_refused_in_words(client: httpx.Client) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (70_000, 20)).save(buffer, "PNG")
    refused, drawn = (
        client.post(URL, content=buffer.getvalue(), headers={"accept": f"image/{kind}"})
        for kind in ("jpeg", "png")
    )
    assert (refused.status_code, refused.json()["code"]) == (406, "not_acceptable")
    assert "image/png" in refused.json()["detail"]
    assert drawn.status_code == 200


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_accept_asks_for_the_picture(client: httpx.Client, photo: bytes, kind: str) -> None:
    response = client.post(URL, content=photo, headers={"accept": f"image/{kind}"})
    assert response.headers["content-type"] == f"image/{kind}"
    assert Image.open(io.BytesIO(response.content)).format == kind.upper()
    assert response.headers["x-faces"] == "1"
    assert response.headers["vary"] == "Accept"
    assert response.headers["x-request-id"]
    assert timed_stages(response) == STAGES


def test_only_the_surroundings_of_the_face_are_drawn_on(client: httpx.Client, photo: bytes) -> None:
    original = np.asarray(Image.open(io.BytesIO(photo)).convert("RGB"))
    drawn = picture(client.post(URL, content=photo, headers={"accept": "image/png"}))
    (face,) = client.post(URL, content=photo).json()["faces"]
    box = face["box"]
    changed = np.any(drawn != original, axis=2)
    edge = changed[box["y"] : box["y"] + box["height"], box["x"]]
    assert edge.all()
    nose = face["landmarks"]["nose"]
    assert changed[round(nose["y"]), round(nose["x"])]
    rows, columns = np.nonzero(changed)
    assert columns.min() >= box["x"] - box["width"]
    assert rows.max() <= box["y"] + 2 * box["height"]


def test_a_reduced_decode_still_gives_all_pixels_and_the_same_faces(
    client: httpx.Client, photo: bytes
) -> None:
    large = Image.open(io.BytesIO(photo)).convert("RGB").resize((3000, 3000))
    body = jpeg(large)
    drawn = picture(client.post(URL, content=body, headers={"accept": "image/png"}))
    assert drawn.shape == (3000, 3000, 3)
    original = np.asarray(Image.open(io.BytesIO(body)))
    box = client.post(URL, content=body).json()["faces"][0]["box"]
    changed = np.any(drawn != original, axis=2)
    assert changed[box["y"] : box["y"] + box["height"], box["x"] + 1].all()
    assert not changed[-200:].any()


def test_the_picture_is_upright(client: httpx.Client, photo: bytes) -> None:
    upright = Image.open(io.BytesIO(photo)).convert("RGB").crop((0, 0, 512, 400))
    on_its_side = jpeg(upright.transpose(Image.Transpose.ROTATE_90), orientation=6)
    response = client.post(URL, content=on_its_side, headers={"accept": "image/jpeg"})
    assert picture(response).shape == (400, 512, 3)
    assert response.headers["x-faces"] == "1"
    assert Image.open(io.BytesIO(response.content)).getexif().get(0x0112, 1) == 1


def test_parameters_hold_for_the_picture(client: httpx.Client, photo: bytes) -> None:
    original = np.asarray(Image.open(io.BytesIO(photo)).convert("RGB"))
    response = client.post(URL, content=photo, params={"min_confidence": 1}, headers={"accept": "image/png"})
    assert response.headers["x-faces"] == "0"
    assert np.array_equal(picture(response), original)


def test_errors_are_problems_whatever_is_accepted(client: httpx.Client) -> None:
    response = client.post(URL, content=b"no image", headers={"accept": "image/png"})
    assert response.status_code == 415
    assert response.headers["content-type"] == "application/problem+json"


def test_json_answers_tell_their_timings_in_the_header_too(client: httpx.Client, photo: bytes) -> None:
    response = client.post(URL, content=photo)
    assert timed_stages(response) == [stage for stage in STAGES if stage != "draw"]
    for name, milliseconds in response.json()["timings_ms"].items():
        assert f"{name};dur={milliseconds}" in response.headers["server-timing"].split(", ")
