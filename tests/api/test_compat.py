"""POST /analyze, field by field against what deepface 0.0.103 sends and answers."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from service.vision.types import EMOTIONS
from tests.conftest import Serve

ROOT = Path(__file__).parents[2]
URL = "/analyze"
FORM = {"content-type": "application/x-www-form-urlencoded"}


def answer(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def refusal(response: httpx.Response, status: int, code: str) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code), problem
    return str(problem["detail"])


@pytest.fixture(scope="module")
def uri(photo: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(photo).decode()


@pytest.fixture(scope="module")
def wall() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((200, 300, 3), 90, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_every_documented_request_gives_the_same_answer(client: httpx.Client, photo: bytes, uri: str) -> None:
    upload = {"img": ("test_image.jpg", photo)}
    requests: list[dict[str, Any]] = [
        {"json": {"img": uri, "actions": ["emotion"]}},
        {"json": {"img_path": uri, "actions": ["emotion"]}},
        {"json": {"img": uri, "actions": ["emotion"], "detector_backend": "retinaface", "align": True,
                  "enforce_detection": False, "anti_spoofing": False, "silent": True}},
        {"json": {"img": uri, "actions": "emotion"}},
        {"json": {"img": uri}},
        {"files": upload, "data": {"actions": '["emotion"]', "detector_backend": "mtcnn"}},
        {"files": upload, "data": {"actions": "('emotion',)", "enforce_detection": "false"}},
        {"files": upload},
        {"files": {"img": (None, uri)}},
        {"data": {"img": uri, "actions": "emotion"}},
        {"files": upload, "data": {"actions": ["emotion", "emotion"]}},
        {"data": {"img": uri, "actions": ["emotion", "emotion"]}},
        {"data": {"img": "", "img_path": uri}},
        {"files": {"img": (None, ""), "img_path": (None, uri)}},
        {"content": json.dumps({"img": uri, "actions": ["emotion"]}), "headers": FORM},
        {"content": "\r\n " + json.dumps({"img": uri}), "headers": FORM},
        {"content": f"actions=emotion&img={uri}", "headers": FORM},
    ]  # fmt: skip
    answers = [answer(client.post(URL, **request)) for request in requests]
    assert all(one == answers[0] for one in answers)


def test_the_answer_has_deepfaces_fields(client: httpx.Client, uri: str) -> None:
    own = client.post("/detect-emotions", json={"image": uri}).json()["faces"][0]
    (face,) = answer(client.post(URL, json={"img": uri}))["results"]
    assert set(face) == {"emotion", "dominant_emotion", "region", "face_confidence"}
    assert tuple(face["emotion"]) == EMOTIONS
    assert sum(face["emotion"].values()) == pytest.approx(100, abs=1e-3)
    for name, score in face["emotion"].items():
        assert score == pytest.approx(100 * own["probabilities"][name], rel=1e-5)
    assert face["dominant_emotion"] == own["dominant_emotion"] == "happy"
    assert face["face_confidence"] == round(own["detection_confidence"], 2)
    region, box = face["region"], own["box"]
    assert set(region) == {"x", "y", "w", "h", "left_eye", "right_eye"}
    assert [region[name] for name in "xywh"] == [box[name] for name in ("x", "y", "width", "height")]
    assert region["left_eye"] == [int(own["landmarks"]["right_eye"][axis]) for axis in "xy"]
    assert region["right_eye"] == [int(own["landmarks"]["left_eye"][axis]) for axis in "xy"]
    assert region["left_eye"][0] > region["right_eye"][0]


def test_no_face_is_an_error_only_where_it_is_asked_for(client: httpx.Client, wall: bytes) -> None:
    for data in ({}, {"enforce_detection": "true"}):
        refusal(client.post(URL, files={"img": wall}, data=data), 400, "face_not_detected")
    assert answer(client.post(URL, files={"img": wall}, data={"enforce_detection": "false"})) == {
        "results": []
    }
    uri = "data:image/png;base64," + base64.b64encode(wall).decode()
    nulls = {"enforce_detection": None, "anti_spoofing": None}
    assert answer(client.post(URL, json={"img": uri, **nulls})) == {"results": []}


@pytest.mark.parametrize(
    "image",
    [
        "dataset/img1.jpg",
        "/etc/passwd",
        "https://example.org/couple.jpg",
        "file:///etc/passwd",
        "http://127.0.0.1:8000/readyz",
    ],
)
def test_no_path_is_read_and_no_url_fetched(client: httpx.Client, image: str) -> None:
    requests: list[dict[str, Any]] = [
        {"json": {"img": image}},
        {"json": {"img_path": image}},
        {"data": {"img": image}},
        {"files": {"img": (None, image)}},
        {"files": {"img_path": (None, image)}},
    ]
    for request in requests:
        detail = refusal(client.post(URL, **request), 422, "invalid_parameter")
        assert "no path is read and no URL is fetched" in detail
        assert image not in detail


def test_a_list_of_images_is_sent_to_the_batch(client: httpx.Client, uri: str) -> None:
    for name in ("img", "img_path"):
        detail = refusal(client.post(URL, json={name: [uri, uri]}), 422, "invalid_parameter")
        assert "/detect-emotions/batch" in detail


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"actions": ["age", "gender", "emotion", "race"]}, "'age', 'gender', 'race'"),
        ({"actions": '["emotion", "age"]'}, "'age'"),
        ({"actions": []}, "none"),
        ({"actions": 7}, "actions"),
        ({"detector_backend": "skip"}, "'skip'"),
        ({"anti_spoofing": True}, "anti_spoofing"),
        ({"enforce_detection": "perhaps"}, "enforce_detection"),
    ],
)
def test_what_is_not_offered_is_said(
    client: httpx.Client, uri: str, fields: dict[str, Any], word: str
) -> None:
    assert word in refusal(client.post(URL, json={"img": uri, **fields}), 422, "invalid_parameter")


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"actions": ["emotion", "age"]}, 422, "invalid_parameter"),
        ({"actions": ["age", "emotion"]}, 422, "invalid_parameter"),
        ({"actions": ""}, 422, "invalid_parameter"),
        ({"actions": 20 * ["emotion"]}, 400, "malformed_body"),
        ({"enforce_detection": ""}, 422, "invalid_parameter"),
        ({"enforce_detection": ["true", "false"]}, 400, "malformed_body"),
        ({"img_path": ["a", "b"]}, 413, "too_many_images"),
    ],
)
def test_both_kinds_of_form_are_read_alike(
    client: httpx.Client, uri: str, fields: dict[str, Any], status: int, code: str
) -> None:
    details = {
        refusal(client.post(URL, files={"img": (None, uri)}, data=fields), status, code),
        refusal(client.post(URL, data={"img": uri, **fields}), status, code),
    }
    assert len(details) == 1


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({}, 400, "empty_body"),
        ({"json": {}}, 400, "empty_body"),
        ({"json": {"img": ""}}, 400, "empty_body"),
        ({"files": {"image": b"x"}}, 400, "empty_body"),
        ({"json": ["a"]}, 400, "malformed_body"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "malformed_body"),
        ({"content": b"x", "headers": {"content-type": "image/jpeg"}}, 400, "malformed_body"),
        ({"json": {"img": "data:image/jpeg;base64,%%"}}, 400, "malformed_body"),
        ({"json": {"img": "data:image/jpeg,abc"}}, 400, "malformed_body"),
        ({"json": {"img": "data:image/jpeg;base64,AAECAwQF"}}, 415, "unsupported_media_type"),
        ({"files": {"img": b"\x00\x01"}}, 415, "unsupported_media_type"),
        ({"files": [("img", b"\x00"), ("img", b"\x00")]}, 413, "too_many_images"),
    ],
)
def test_bad_requests_get_their_code(
    client: httpx.Client, request_: dict[str, Any], status: int, code: str
) -> None:
    refusal(client.post(URL, **request_), status, code)


def test_the_key_and_the_limits_hold_here_too(serve: Serve, photo: bytes) -> None:
    with serve(api_keys="secret", max_body_bytes=len(photo)) as client:
        refusal(client.post(URL, files={"img": photo[:10]}), 401, "unauthorized")
        headers = {"x-api-key": "secret"}
        refusal(client.post(URL, files={"img": photo}, headers=headers), 413, "body_too_large")
        bearer = {"authorization": "Bearer secret"}
        refusal(client.post(URL, files={"img": photo}, headers=bearer), 413, "body_too_large")
        bearer = {"authorization": "Bearer guess"}
        refusal(client.post(URL, files={"img": photo[:10]}, headers=bearer), 401, "unauthorized")
        assert client.get("/models", headers={"authorization": "Bearer secret"}).status_code == 401


def test_the_document_shows_how_pixels_are_analyzed(
    client: httpx.Client, photo: bytes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "compatibility.md").read_text(), re.DOTALL)
    monkeypatch.chdir(ROOT)
    exec(code, {})
    shown = [int(number) for number in re.findall(r"=(\d+)", capsys.readouterr().out)]
    (face,) = client.post("/detect-emotions", content=photo).json()["faces"]
    # Another decoder may round otherwise.
    assert shown == pytest.approx(list(face["box"].values()), abs=1)
