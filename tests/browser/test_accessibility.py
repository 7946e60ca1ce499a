"""What axe-core, an accessibility checker, finds on the page in each of its states."""

from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHOTO, Visitor
from tests.browser.test_live import start
from tests.conftest import Serve

NARROW = {"width": 320, "height": 700}
FACE = "Show face 1 in the picture"
LOOKS = """(element) => {
  const {backgroundColor, borderTopColor, borderTopWidth} = getComputedStyle(element);
  return [backgroundColor, borderTopColor, borderTopWidth].join();
}"""
# WCAG's contrast of a border with the ground that it has on both sides.
BORDER_CONTRAST = """(input) => {
  const context = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const light = () => context.getImageData(0, 0, 1, 1).data.slice(0, 3)
    .reduce((sum, byte, index) => {
      const share = byte / 255;
      const linear = share > 0.04045 ? ((share + 0.055) / 1.055) ** 2.4 : share / 12.92;
      return sum + [0.2126, 0.7152, 0.0722][index] * linear;
    }, 0.05);
  const lights = ["backgroundColor", "borderTopColor"].map((name) => {
    context.fillStyle = getComputedStyle(input)[name];
    context.fillRect(0, 0, 1, 1);
    return light();
  });
  return Math.max(...lights) / Math.min(...lights);
}"""
schemes = pytest.mark.parametrize("scheme", ["light", "dark"])


def violations(page: Page) -> list[str]:
    """Each broken rule with the first element that breaks it; axe's best practices are rules too."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']} {one['nodes'][0]['failureSummary']}" for one in found]


@schemes
def test_the_empty_page_and_its_settings(visit: Visitor, client: httpx.Client, scheme: str) -> None:
    page = visit(client, color_scheme=scheme).page
    expect(page.locator("#model option")).not_to_have_count(0)
    assert violations(page) == []
    page.locator("#settings > summary").click()
    page.get_by_label("Smallest face").fill("5")
    assert violations(page) == []
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    assert violations(page) == []


@schemes
def test_where_a_field_begins_can_be_seen(visit: Visitor, client: httpx.Client, scheme: str) -> None:
    page = visit(client, color_scheme=scheme).page
    for field in ("#key", "#model", "#max-faces"):
        assert page.locator(field).evaluate(BORDER_CONTRAST) >= 3


def test_forced_colours_leave_a_mark_on_what_is_chosen(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client, forced_colors="active").page
    page.set_input_files("#files", [PHOTO, PHOTO])
    portrait = page.get_by_role("button", name=FACE)
    before = portrait.evaluate(LOOKS)
    portrait.click()
    assert portrait.evaluate(LOOKS) != before
    photos = ("#strip li:first-child button", "#strip li + li button")
    for chosen, other in (("#tab-photos", "#tab-camera"), photos):
        assert page.locator(chosen).evaluate(LOOKS) != page.locator(other).evaluate(LOOKS)
    field = page.locator("#min-face-size")
    before = field.evaluate(LOOKS)
    page.locator("#settings > summary").click()
    field.fill("5")
    assert field.evaluate(LOOKS) != before


def test_the_focus_on_a_text_that_scrolls_is_seen_on_all_sides(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    page.set_input_files("#files", PHOTO)
    page.locator("#copy-curl").press("Tab")
    expect(page.locator("#curl")).to_be_focused()
    assert page.locator("#curl").evaluate("(text) => parseFloat(getComputedStyle(text).outlineOffset)") <= -3


@schemes
def test_photos_with_their_faces(visit: Visitor, client: httpx.Client, scheme: str) -> None:
    page = visit(client, color_scheme=scheme).page
    page.set_input_files("#files", [PHOTO, PHOTO])
    expect(page.locator("#photo-faces .face-card h3")).to_contain_text("happy")
    expect(page.locator("#strip button")).to_have_count(2)
    page.get_by_role("button", name="Show face 1 in the picture").click()
    assert violations(page) == []
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    assert violations(page) == []


@schemes
def test_a_failure(visit: Visitor, client: httpx.Client, scheme: str, tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("this is no image")
    visited = visit(client, color_scheme=scheme)
    visited.statuses = {415}
    visited.page.set_input_files("#files", tmp_path / "notes.jpg")
    expect(visited.page.get_by_role("alert")).to_contain_text("unsupported_media_type")
    assert violations(visited.page) == []


@schemes
def test_a_key_that_is_not_taken(visit: Visitor, serve: Serve, scheme: str) -> None:
    with serve(api_keys="let-me-in") as client:
        visited = visit(client, color_scheme=scheme)
        visited.statuses = {401}
        visited.page.get_by_label("This service asks for an API key").fill("wrong")
        visited.page.get_by_role("button", name="Use this key").click()
        expect(visited.page.get_by_role("alert")).to_contain_text("unauthorized")
        assert violations(visited.page) == []


@schemes
def test_the_live_view(visit: Visitor, client: httpx.Client, scheme: str) -> None:
    page = visit(client, color_scheme=scheme).page
    page.locator("#tab-camera").click()
    assert violations(page) == []
    start(page)
    expect(page.locator("#live-faces .face-card")).to_have_count(1)
    assert violations(page) == []
