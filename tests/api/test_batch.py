"""POST /detect-emotions/batch."""

import httpx

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


def test_a_batch_is_a_form(client: httpx.Client, photo: bytes) -> None:
    assert client.post(URL, content=photo).json()["code"] == "malformed_body"
    assert client.post(URL).json()["code"] == "empty_body"
    assert client.post(URL, files={"image": photo}).json()["code"] == "empty_body"


def test_parameters_hold_for_every_image(client: httpx.Client, photo: bytes) -> None:
    results = client.post(URL, files=files(photo, photo), params={"min_confidence": 1}).json()["results"]
    assert [result["result"]["faces"] for result in results] == [[], []]
