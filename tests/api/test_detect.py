"""POST /detect-emotions: every form of body, every parameter, and the answer's own promises."""

import base64
import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from service.api.errors import MalformedBodyError
from service.api.schemas import Detection
from service.api.uploads import described, single_image
from service.vision.types import EMOTIONS
from tests.conftest import Serve

URL = "/detect-emotions"
README = Path(__file__).parents[2] / "README.md"


def answer(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def without_timings(detection: Any) -> Any:
    return {key: value for key, value in detection.items() if key != "timings_ms"}


def encoded(pixels: Any, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def test_the_readme_shows_what_the_shipped_graphs_answer(client: httpx.Client, photo: bytes) -> None:
    shown = json.loads(re.findall(r"```json\n(.*?)```", README.read_text(), re.DOTALL)[0])
    given = answer(client.post(URL, content=photo))
    assert shown["timings_ms"].keys() == given["timings_ms"].keys()
    assert shown["image"] == given["image"]
    model = shown["model"]
    assert given["model"] == {**model, "digest": given["model"]["digest"]}
    assert given["model"]["digest"].startswith(model["digest"].removesuffix("..."))
    (face,), (expected,) = given["faces"], shown["faces"]
    assert face.keys() == expected.keys()
    # Other processors round otherwise.
    assert face["box"] == pytest.approx(expected["box"], abs=1)
    assert face["probabilities"] == pytest.approx(expected["probabilities"], rel=0.01)
    for name, point in expected["landmarks"].items():
        assert face["landmarks"][name] == pytest.approx(point, abs=0.5)


@pytest.mark.parametrize("query", ["", "?include=crops"])
def test_an_answer_is_what_its_schema_says(client: httpx.Client, photo: bytes, query: str) -> None:
    TypeAdapter(Detection).validate_json(client.post(URL + query, content=photo).content)


@pytest.fixture(scope="module")
def two_faces(photo: bytes) -> bytes:
    """The astronaut twice, the second time at two fifths of the size."""
    image = Image.open(io.BytesIO(photo)).convert("RGB")
    canvas = Image.new("RGB", (900, 520))
    canvas.paste(image.resize((200, 200)), (640, 100))
    canvas.paste(image, (0, 0))
    return encoded(np.asarray(canvas))


def test_every_body_form_gives_the_same_answer(client: httpx.Client, photo: bytes) -> None:
    text = base64.b64encode(photo).decode()
    bodies: list[dict[str, Any]] = [
        {"files": {"image": ("x.jpg", photo, "image/jpeg")}},
        {"files": {"note": ("", b"ignored"), "image": ("", photo, "text/plain")}},
        {"content": photo, "headers": {"content-type": "image/jpeg"}},
        {"content": photo, "headers": {"content-type": "application/octet-stream"}},
        {"content": photo},
        {"content": iter([photo[:1000], photo[1000:]])},
        {"json": {"image": text}},
        {"json": {"image": f"data:image/jpeg;base64,{text}"}},
        {"json": {"image": "\n".join(text[i : i + 76] for i in range(0, len(text), 76))}},
    ]
    answers = [without_timings(answer(client.post(URL, **body))) for body in bodies]
    assert all(one == answers[0] for one in answers)


FORM = {"content-type": "multipart/form-data; boundary=b+d"}


def form(photo: bytes, preamble: bytes = b"", blanks: bytes = b"", epilogue: bytes = b"") -> bytes:
    """Two fields, of which the image is the first."""
    field = b'Content-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    opening = b"--b+d" + blanks + b"\r\n"
    fields = opening + field % (b"image", photo) + opening + field % (b"note", b"--b+d in a text")
    return preamble + fields + b"--b+d--" + blanks + epilogue


@pytest.mark.parametrize("blanks", [b"", b" ", b"\t \t"])
@pytest.mark.parametrize("preamble", [b"", b"\n", b"\r\n", b"Not for readers --b+d\r\n", b"\r\n\r\n--b+\r\n"])
@pytest.mark.parametrize("epilogue", [b"", b"\r\n", b"\r\nnor this\r\n--b+d \r\n"])
def test_all_that_a_multipart_body_may_have_around_its_fields_is_passed_over(
    client: httpx.Client, photo: bytes, preamble: bytes, blanks: bytes, epilogue: bytes
) -> None:
    found = answer(client.post(URL, content=form(photo, preamble, blanks, epilogue), headers=FORM))
    assert without_timings(found) == without_timings(answer(client.post(URL, content=photo)))


def test_a_multipart_body_cut_anywhere_before_its_end_is_refused() -> None:
    whole = form(b"a photo", b"Not for readers\r\n", b" \t")
    ends = whole.index(b"--b+d--") + len(b"--b+d--")
    for length in range(1, ends):
        with pytest.raises(MalformedBodyError):
            single_image(described(whole[:length], FORM["content-type"]))
    assert single_image(described(whole[:ends], FORM["content-type"])) == b"a photo"


def test_a_field_keeps_what_only_resembles_a_delimiter() -> None:
    photo = b"\r\n--b+ \r\n --b+d \r\n\r\n--b+dx \r\n"
    for blanks in (b"", b" "):
        body = described(form(photo, blanks=blanks), FORM["content-type"])
        assert single_image(body) == photo


def test_the_answer_has_landmarks_and_seven_probabilities(client: httpx.Client, photo: bytes) -> None:
    found = answer(client.post(URL, content=photo))
    assert found["image"] == {"width": 512, "height": 512, "format": "jpeg", "exif_orientation": 1}
    (face,) = found["faces"]
    box, marks = face["box"], face["landmarks"]
    assert 150 < box["x"] < 200
    assert 40 < box["y"] < 90
    assert marks["left_eye"]["x"] < marks["nose"]["x"] < marks["right_eye"]["x"]
    assert marks["left_eye"]["y"] < marks["nose"]["y"] < marks["mouth_left"]["y"]
    assert tuple(face["probabilities"]) == EMOTIONS
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert min(face["probabilities"].values()) > 0
    assert face["dominant_emotion"] == max(EMOTIONS, key=face["probabilities"].__getitem__) == "happy"
    assert "crop" not in face
    assert found["model"]["name"] == "balanced"
    timings = found["timings_ms"]
    assert set(timings) == {"queue", "decode", "detect", "crop", "classify", "total"}
    assert sum(timings.values()) - timings["total"] <= timings["total"] + 1


def test_faces_come_largest_first_and_max_faces_keeps_the_largest(
    client: httpx.Client, two_faces: bytes
) -> None:
    faces = answer(client.post(URL, content=two_faces))["faces"]
    assert len(faces) == 2
    sizes = [face["box"]["width"] * face["box"]["height"] for face in faces]
    assert all(before >= after for before, after in pairwise(sizes))
    assert answer(client.post(URL, content=two_faces, params={"max_faces": 1}))["faces"] == faces[:1]


def test_min_face_size_leaves_out_smaller_faces(client: httpx.Client, two_faces: bytes) -> None:
    faces = answer(client.post(URL, content=two_faces, params={"min_face_size": 130}))["faces"]
    assert [face["box"]["x"] < 500 for face in faces] == [True]


def test_min_confidence_leaves_out_unsure_faces(client: httpx.Client, photo: bytes) -> None:
    assert answer(client.post(URL, content=photo, params={"min_confidence": 1}))["faces"] == []


def test_include_crops_adds_what_the_classifier_saw(client: httpx.Client, photo: bytes) -> None:
    (face,) = answer(client.post(URL, content=photo, params={"include": "crops"}))["faces"]
    crop = cv2.imdecode(np.frombuffer(base64.b64decode(face["crop"]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert crop is not None
    assert crop.shape == (48, 48)


def test_no_face_is_no_error(client: httpx.Client) -> None:
    blank = encoded(np.zeros((200, 300, 3), np.uint8))
    assert answer(client.post(URL, content=blank))["faces"] == []


@pytest.mark.parametrize("accept", ["*/*", "application/*", "text/html, */*;q=0.1", ""])
def test_json_is_the_default_answer(client: httpx.Client, photo: bytes, accept: str) -> None:
    response = client.post(URL, content=photo, headers={"accept": accept})
    assert response.headers["content-type"] == "application/json"


def test_concurrent_requests_get_their_own_answers(serve: Serve, photo: bytes) -> None:
    image = np.asarray(Image.open(io.BytesIO(photo)).convert("RGB"))
    images = [encoded(np.roll(image, (3 * i, 5 * i), axis=(0, 1)), "JPEG") for i in range(64)]
    # How long all of them take is not the point here.
    with serve(request_timeout_s=600) as client, ThreadPoolExecutor(64) as pool:
        client.timeout = 600
        alone = [without_timings(answer(client.post(URL, content=image))) for image in images]
        together = list(pool.map(lambda image: client.post(URL, content=image), images))
    assert len({json.dumps(one) for one in alone}) == 64
    assert [without_timings(answer(response)) for response in together] == alone
