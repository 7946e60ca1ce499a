import httpx
import pytest

from service.api.errors import NotAcceptableError
from service.api.negotiation import negotiate

OFFERS = ["application/json", "image/jpeg", "image/png"]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("image/png", "image/png"),
        ("image/*", "image/jpeg"),
        ("image/*, image/jpeg;q=0", "image/png"),
        ("image/*;q=0.5, application/json;q=0.4", "image/jpeg"),
        ("IMAGE/PNG ; q=1.0", "image/png"),
        ("image/png, image/png;level=1;q=0", "image/png"),
        ("text/html, */*;q=0.1", "application/json"),
    ],
)
def test_the_wanted_answer_is_chosen(accept: str | None, expected: str) -> None:
    assert negotiate(accept, OFFERS) == expected


@pytest.mark.parametrize("accept", [["text/html", "image/png"], ["", "image/png"], ["image/png", ""]])
def test_all_lines_of_the_header_count(client: httpx.Client, photo: bytes, accept: list[str]) -> None:
    headers = [("accept", line) for line in accept]
    # Without the client's own header, which would be a line of it, too.
    request = httpx.Request("POST", client.base_url.join("/detect-emotions"), headers=headers, content=photo)
    assert client.send(request).headers["content-type"] == "image/png"


@pytest.mark.parametrize("path", ["/detect-emotions/batch", "/analyze"])
def test_any_line_may_name_the_answer(client: httpx.Client, photo: bytes, path: str) -> None:
    headers = [("accept", "text/html"), ("accept", "application/json")]
    files = {"images": photo} if path.endswith("batch") else {"img": photo}
    request = httpx.Request("POST", client.base_url.join(path), headers=headers, files=files)
    assert client.send(request).status_code == 200


@pytest.mark.parametrize("accept", ["text/html", "*/*;q=0", "image/png;q=x", "image/png;q=-1", ","])
def test_what_no_answer_satisfies_is_refused(accept: str) -> None:
    with pytest.raises(NotAcceptableError):
        negotiate(accept, OFFERS)
