"""The pictures of the documentation, made from what a user would see."""

from io import BytesIO
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import PHOTO, Visitor
from tests.browser.test_live import answers, start

MOST_BYTES = 250_000
ENOUGH_FOR_A_LINE = 240


def save(shown: Page | Locator, path: Path) -> None:
    """A screenshot in a palette: a third of the bytes, and no difference that a reader would see."""
    picture = Image.open(BytesIO(shown.screenshot())).convert("RGB")
    picture.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    assert path.stat().st_size < MOST_BYTES


LARGE, PHONE = (1180, 860), (390, 844)


@pytest.mark.parametrize(
    "shot", [("page-light", "light", LARGE), ("page-dark", "dark", LARGE), ("page-phone", "light", PHONE)]
)
def test_picture_of_the_page(
    visit: Visitor, client: httpx.Client, pictures: Path, shot: tuple[str, str, tuple[int, int]]
) -> None:
    name, scheme, (width, height) = shot
    page = visit(client, color_scheme=scheme, viewport={"width": width, "height": height}).page
    page.set_input_files("#files", PHOTO)
    expect(page.locator("#photo-faces .face-card h3")).to_contain_text("happy")
    # The first answer of a server comes from cold caches; the second has the usual times.
    with page.expect_response("**/detect-emotions"):
        page.get_by_role("button", name="Analyze again").click()
    expect(page.locator("#photo-stage")).not_to_have_class("stage busy")
    if name == "page-phone":
        page.locator("#photo-stage").evaluate("(stage) => stage.scrollIntoView({block: 'start'})")
    else:
        page.evaluate("() => scrollTo(0, 0)")
    save(page, pictures / f"{name}.png")


def test_picture_of_a_failure(
    visit: Visitor, client: httpx.Client, pictures: Path, photo: bytes, tmp_path: Path
) -> None:
    (tmp_path / "cut.jpg").write_bytes(photo[:5000])
    visited = visit(client, viewport={"width": 1180, "height": 640})
    visited.statuses = {422}
    visited.page.set_input_files("#files", tmp_path / "cut.jpg")
    expect(visited.page.get_by_role("alert")).to_contain_text("invalid_image")
    visited.page.evaluate("() => scrollTo(0, 0)")
    save(visited.page, pictures / "page-error.png")


def test_picture_of_the_live_view(visit: Visitor, client: httpx.Client, pictures: Path) -> None:
    page = visit(client, viewport={"width": 1100, "height": 1000}).page
    socket = start(page)
    expect(page.locator("#live-faces .face-card")).to_have_count(1)
    answers(socket, ENOUGH_FOR_A_LINE)
    save(page.locator("#panel-camera"), pictures / "live.png")


def test_annotated_picture(client: httpx.Client, photo: bytes, pictures: Path) -> None:
    response = client.post("/detect-emotions", content=photo, headers={"accept": "image/jpeg"})
    assert response.headers["x-faces"] == "1"
    (pictures / "annotated.jpg").write_bytes(response.content)
    assert len(response.content) < MOST_BYTES
