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
