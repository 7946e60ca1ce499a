"""POST /detect-emotions/batch."""

import base64
import json

import httpx
import pytest

from service.api.errors import MalformedBodyError
from service.api.uploads import Body, batch_images, one_of_batch
from service.settings import Settings
from tests.conftest import Serve

URL = "/detect-emotions/batch"


def files(*images: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", (f"{index}.jpg", image)) for index, image in enumerate(images)]


def test_answers_keep_the_order_and_one_bad_image_fails_alone(client: httpx.Client, photo: bytes) -> None:
    response = client.post(URL, files=files(photo, b"no image", b"", photo[:5000], photo))
    assert response.status_code == 200
    results = response.json()["results"]
    assert [result["status"] for result in results] == ["ok", "error", "error", "error", "ok"]
    codes = [result["error"]["code"] for result in results if result["status"] == "error"]
    assert codes == ["unsupported_media_type", "empty_body", "invalid_image"]
    assert results[0]["result"]["faces"] == results[4]["result"]["faces"]
    assert len(results[0]["result"]["faces"]) == 1


def test_too_many_images_are_refused(serve: Serve, photo: bytes) -> None:
    with serve(max_batch_images=2) as client:
        response = client.post(URL, files=files(photo, photo, photo))
    assert (response.status_code, response.json()["code"]) == (413, "too_many_images")


def test_json_is_answered_as_a_form_is(client: httpx.Client, photo: bytes) -> None:
    coded = base64.b64encode(photo).decode()
    images = [coded, "no base64!", "", coded + "\N{GRINNING FACE}", f"data:image/jpeg;base64,{coded}"]
    results = client.post(URL, json={"images": images}).json()["results"]
    codes = [result["error"]["code"] for result in results if result["status"] == "error"]
    assert [result["status"] for result in results] == ["ok", "error", "error", "error", "ok"]
    assert codes == ["malformed_body", "empty_body", "malformed_body"]
    (of_form,) = client.post(URL, files=files(photo)).json()["results"]
    assert results[0]["result"]["faces"] == results[4]["result"]["faces"] == of_form["result"]["faces"]


def test_the_largest_batch_fits_in_json_and_no_text_is_held_wide() -> None:
    uris = ["data:image/jpeg;base64,AAAA" + "\N{GRINNING FACE}" * (n == 0) for n in range(1000)]
    body = Body(json.dumps({"images": uris}).encode(), "application/json", None)
    images = batch_images(body, Settings(_env_file=None, max_batch_images=1000).max_batch_images)
    assert len(images) == 1000
    assert all(isinstance(image, str) and image.isascii() for image in images)
    with pytest.raises(MalformedBodyError, match="not base64"):
        one_of_batch(images[0])


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"images": []}, "empty_body"),
        ({"image": "AAAA"}, "malformed_body"),
        ({"images": "AAAA"}, "malformed_body"),
        ({"images": ["AAAA", 1]}, "malformed_body"),
        ({"images": ["AAAA"] * 17}, "too_many_images"),
    ],
)
def test_json_without_a_list_of_texts_is_refused(client: httpx.Client, body: object, code: str) -> None:
    assert client.post(URL, json=body).json()["code"] == code


def test_a_batch_is_a_form_or_json(client: httpx.Client, photo: bytes) -> None:
    assert client.post(URL, content=photo).json()["code"] == "malformed_body"
    unnamed = client.post(URL, data={"images": "AAAA"})  # as `curl -d` calls what it sends
    assert unnamed.json()["detail"].endswith("application/json")
    assert client.post(URL).json()["code"] == "empty_body"
    assert client.post(URL, files={"image": photo}).json()["code"] == "empty_body"


def test_parameters_hold_for_every_image(client: httpx.Client, photo: bytes) -> None:
    results = client.post(URL, files=files(photo, photo), params={"min_confidence": 1}).json()["results"]
    assert [result["result"]["faces"] for result in results] == [[], []]
