"""GET /docs in a real Chromium: Swagger UI under a policy that allows nothing inline."""

import httpx
from playwright.sync_api import expect

from tests.browser.conftest import PHOTO, Visitor
from tests.conftest import Serve


def test_an_operation_can_be_tried_and_its_picture_seen(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    page.set_default_timeout(60_000)  # Swagger UI takes its time
    page.goto(f"{client.base_url}/docs")
    page.locator("#operations-detection-detect_emotions button").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_label("Media Type").first.select_option("image/jpeg")
    page.locator("input[type=file]").set_input_files(PHOTO)
    page.get_by_role("button", name="Execute").click()
    picture = page.locator(".live-responses-table img")
    picture.wait_for()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 512


def test_the_page_leads_to_the_documentation_where_there_is_one(
    visit: Visitor, serve: Serve, client: httpx.Client
) -> None:
    page = visit(client).page
    page.get_by_role("link", name="API").click()
    expect(page).to_have_url(f"{client.base_url}/docs")
    with serve(docs=False) as bare:
        visited = visit(bare)
        visited.statuses = {404}
        expect(visited.page.get_by_role("link", name="API")).to_be_hidden()
