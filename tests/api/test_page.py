"""GET / and the files of the page, as a browser gets them."""

import re

import httpx
import pytest

from service.api.routes.page import FILES
from service.vision.draw import EMOTION_COLORS

NAMES = sorted(path.name for path in FILES.iterdir())


@pytest.mark.parametrize("path", ["/", *(f"/page/{name}" for name in NAMES)])
def test_every_file_comes_with_its_fences(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["permissions-policy"].startswith("camera=(self)")
    etag = {"if-none-match": response.headers["etag"]}
    assert client.get(path, headers=etag).status_code == 304


def test_what_is_not_there_is_a_problem(client: httpx.Client) -> None:
    for path in ("/page/nothing.js", "/page/../main.py", "/page/"):
        response = client.get(path)
        assert (response.status_code, response.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_answers_head_and_refuses_post(client: httpx.Client, path: str) -> None:
    response = client.head(path)
    assert (response.status_code, response.content) == (200, b"")
    assert client.post(path).status_code == 405


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere(client: httpx.Client) -> None:
    html = client.get("/").text
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html)
    assert re.findall(r"<script[^>]*>(.*?)</script>", html) == [""]
    for asset in re.findall(r'(?:src|href)="([^"#]+)"', html):
        assert client.get(f"/{asset}").status_code == 200


@pytest.mark.parametrize("name", NAMES)
def test_no_file_names_another_host(name: str) -> None:
    text = (FILES / name).read_text().replace("http://www.w3.org/2000/svg", "")
    assert "//" not in re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".js")])
def test_modules_import_what_is_there_and_write_text_only(name: str) -> None:
    text = (FILES / name).read_text()
    imported = re.findall(r'from "\./([^"]+)"', text)
    assert set(imported) <= set(NAMES)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|localStorage", text)


def test_page_and_annotated_picture_use_the_same_colours() -> None:
    style = (FILES / "style.css").read_text()
    found = dict(re.findall(r'\[data-emotion="(\w+)"\] { --emotion: #(\w{6})', style))
    assert found == {name: bytes(color).hex() for name, color in EMOTION_COLORS.items()}


def test_each_line_of_the_chart_has_its_own_dashes() -> None:
    dashes = re.findall(r"^  \w+: (\[.*\]),$", (FILES / "emotions.js").read_text(), flags=re.MULTILINE)
    assert len(dashes) == len(set(dashes)) == len(EMOTION_COLORS)
