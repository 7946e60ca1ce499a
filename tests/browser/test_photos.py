"""Photos on the page: every way in, every control, every way out."""

import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import ExifTags, Image
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.conftest import PHOTO, Visitor, transfer
from tests.conftest import Serve

# How a photo is stored that an EXIF orientation turns upright again.
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}
PIXEL = """async (image, [x, y]) => {
  await image.decode();
  const canvas = document.createElement("canvas");
  Object.assign(canvas, {width: image.naturalWidth, height: image.naturalHeight});
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return Array.from(context.getImageData(x * canvas.width, y * canvas.height, 1, 1).data);
}"""
HOLD_QUESTIONS = """() => {
  const ask = window.fetch;
  window.held = [];
  window.fetch = async (url, options) => {
    await new Promise((letGo) => held.push(letGo));
    return ask(url, options);
  };
}"""
OUTLINE = "(element) => getComputedStyle(element).outlineStyle"
INSIDE = """(label) => {
  const picture = document.getElementById("photo-frame");
  const [inner, outer] = [label, picture].map((element) => element.getBoundingClientRect());
  return inner.left >= outer.left && inner.right <= outer.right && inner.top >= outer.top
    && inner.bottom <= outer.bottom;
}"""
# Where the first and the last character of what follows the file's name are drawn.
ENDS = """(caption) => {
  const text = caption.lastChild;
  return [0, text.length - 1].map((at) => {
    const range = document.createRange();
    range.setStart(text, at);
    range.setEnd(text, at + 1);
    return range.getBoundingClientRect().left;
  });
}"""
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


def cards(page: Page) -> Locator:
    return page.locator("#photo-faces .face-card")


def open_settings(page: Page) -> None:
    page.locator("#settings > summary").click()


def test_a_chosen_photo_shows_its_face(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    page.set_input_files("#files", PHOTO)
    expect(cards(page)).to_have_count(1)
    expect(cards(page).locator("h3")).to_contain_text("happy")
    expect(cards(page).locator(".bars li")).to_have_count(7)
    expect(page.locator("#photo-overlay .box .mark")).to_have_count(5)
    expect(page.locator("#photo-overlay .label")).to_contain_text("happy")
    expect(page.locator("#photo-caption")).to_have_text(re.compile("astronaut.jpg · 1 face, 512 . 512"))
    for stage in ("queue", "decode", "detect", "crop", "classify"):
        expect(page.locator(f'#photo-timings li[data-stage="{stage}"]')).to_contain_text("ms")
    expect(page.get_by_role("status")).to_contain_text("astronaut.jpg: 1 face. Face 1: happy")


def test_the_box_lies_on_the_face(visit: Visitor, client: httpx.Client, photo: bytes) -> None:
    (face,) = client.post("/detect-emotions", content=photo).json()["faces"]
    page = visit(client).page
    page.set_input_files("#files", PHOTO)
    picture, box = page.locator("#photo"), page.locator("#photo-overlay .box")
    expect(box).to_be_visible()
    shown, drawn = picture.bounding_box(), box.bounding_box()
    assert shown is not None
    assert drawn is not None
    scale = shown["width"] / 512
    assert drawn["x"] - shown["x"] == pytest.approx(face["box"]["x"] * scale, abs=1)
    assert drawn["y"] - shown["y"] == pytest.approx(face["box"]["y"] * scale, abs=1)
    assert drawn["width"] == pytest.approx(face["box"]["width"] * scale, abs=1)


def test_photos_are_dropped(visit: Visitor, client: httpx.Client, photo: bytes) -> None:
    page = visit(client).page
    files = transfer(page, ("one.jpg", "image/jpeg", photo), ("two.jpg", "image/jpeg", photo))
    page.dispatch_event("#drop", "dragover", {"dataTransfer": files})
    expect(page.locator("#drop")).to_have_class("drop over")
    page.dispatch_event("#drop", "drop", {"dataTransfer": files})
    strip = page.locator("#strip button")
    expect(strip).to_have_count(2)
    expect(strip.nth(1)).to_contain_text("1 face")
    expect(page.locator("#photo-caption")).to_contain_text("one.jpg")
    strip.nth(1).click()
    expect(page.locator("#photo-caption")).to_contain_text("two.jpg")
    expect(strip.nth(1)).to_have_attribute("aria-current", "true")
    expect(strip.nth(1)).to_be_focused()


def hold_questions(page: Page) -> None:
    """What the page asks from here on waits until `let_go`."""
    page.evaluate(HOLD_QUESTIONS)


def let_go(page: Page, number: int) -> None:
    page.wait_for_function("(number) => held.length > number", arg=number)
    page.evaluate("(number) => held[number]()", number)


def test_a_photo_that_waits_shows_nothing_of_the_one_before(
    visit: Visitor, client: httpx.Client, photo: bytes
) -> None:
    page = visit(client).page
    page.set_input_files("#files", PHOTO)
    expect(cards(page)).to_have_count(1)
    hold_questions(page)
    page.get_by_role("button", name="Analyze again").click()
    expect(page.locator("#photo-stage")).to_have_class("stage busy")
    expect(cards(page)).to_have_count(1)
    files = transfer(page, ("next.jpg", "image/jpeg", photo), ("last.jpg", "image/jpeg", photo))
    page.dispatch_event("#drop", "drop", {"dataTransfer": files})
    for index, name in ((2, "last.jpg"), (1, "next.jpg")):
        page.locator("#strip button").nth(index).click()
        expect(page.locator("#photo-caption")).to_have_text(re.compile(f"{name} . working"))
        for place in ("#photo-overlay", "#photo-faces", "#photo-timings"):
            expect(page.locator(f"{place} > *")).to_have_count(0)
        assert page.locator("#photo-frame").get_attribute("style") in (None, "")
    let_go(page, 1)
    expect(page.locator("#photo-overlay .box")).to_have_count(1)
    expect(cards(page)).to_have_count(1)


def test_a_photo_is_pasted(visit: Visitor, client: httpx.Client, photo: bytes) -> None:
    page = visit(client).page
    clipboard = transfer(page, ("image.png", "image/jpeg", photo))
    page.evaluate(
        "(data) => document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data}))", clipboard
    )
    expect(cards(page)).to_have_count(1)


def test_a_field_takes_the_text_of_what_is_text_and_picture(
    visit: Visitor, client: httpx.Client, photo: bytes
) -> None:
    page = visit(client).page
    clipboard = transfer(page, ("image.png", "image/jpeg", photo))
    clipboard.evaluate("(data) => data.setData('text/plain', '300')")
    paste = """(field, clipboardData) =>
      field.dispatchEvent(new ClipboardEvent("paste", {clipboardData, bubbles: true, cancelable: true}))"""
    assert page.locator("#min-face-size").evaluate(paste, clipboard) is True
    assert page.locator("body").evaluate(paste, clipboard) is False
    expect(page.locator("#strip li")).to_have_count(1)


def test_failures_are_told_in_words(
    visit: Visitor, client: httpx.Client, photo: bytes, tmp_path: Path
) -> None:
    visited = visit(client)
    visited.statuses = {415, 422}
    page = visited.page
    bad, cut = tmp_path / "<img src=x onerror=alert(1)>.jpg", tmp_path / "cut.jpg"
    bad.write_bytes(b"this is no image")
    cut.write_bytes(photo[:5000])
    for path, code in ((bad, "unsupported_media_type"), (cut, "invalid_image")):
        page.set_input_files("#files", path)
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text(code)
        expect(alert.locator("h2")).not_to_be_empty()
        expect(page.locator("#photo-caption")).to_contain_text(path.name)
        expect(cards(page)).to_have_count(0)
    page.set_input_files("#files", PHOTO)
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(cards(page)).to_have_count(1)


def test_a_server_that_is_gone_is_told_in_words(visit: Visitor, client: httpx.Client) -> None:
    visited = visit(client)
    page = visited.page
    page.context.set_offline(True)
    page.set_input_files("#files", PHOTO)
    expect(page.get_by_role("alert")).to_contain_text("The service cannot be reached")
    page.context.set_offline(False)
    page.get_by_role("button", name="Analyze again").click()
    expect(cards(page)).to_have_count(1)
    visited.complaints = [text for text in visited.complaints if "ERR_INTERNET_DISCONNECTED" not in text]


PROBLEM = {"content_type": "application/problem+json"}
BETWEEN = "Something between this page and the service answered with status"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"status": 413, "body": "<h1>413</h1>"}, f"{BETWEEN} 413. The photo is too large for it."),
        ({"status": 429, "body": "", "headers": {"Retry-After": "7"}}, f"{BETWEEN} 429. Try again in 7 s."),
        ({"status": 502, "body": "<h1>502</h1>"}, f"{BETWEEN} 502."),
        ({"status": 403, "body": '{"title": "No"}', **PROBLEM}, f"{BETWEEN} 403."),
        ({"status": 422, "body": '{"title": ', **PROBLEM}, f"{BETWEEN} 422."),
        ({"status": 200, "body": '{"faces": ['}, "It may be stopped or restarting"),
    ],
)
def test_what_is_no_answer_of_the_service_is_told_in_words(
    visit: Visitor, client: httpx.Client, answer: dict[str, Any], told: str
) -> None:
    visited = visit(client)
    visited.statuses = {answer["status"]}
    visited.page.route("**/detect-emotions", lambda route: route.fulfill(**answer))
    visited.page.set_input_files("#files", PHOTO)
    expect(visited.page.get_by_role("alert")).to_contain_text("The service cannot be reached")
    expect(visited.page.get_by_role("alert")).to_contain_text(told)


def test_a_login_before_the_service_holds_for_what_the_page_asks(
    visit: Visitor, client: httpx.Client
) -> None:
    page = visit(client).page
    page.context.add_cookies([{"name": "login", "value": "yes", "url": str(client.base_url)}])
    with page.expect_request("**/detect-emotions") as asked:
        page.set_input_files("#files", PHOTO)
    assert asked.value.all_headers()["cookie"] == "login=yes"


def test_a_file_that_is_gone_is_not_laid_at_the_service_s_door(
    visit: Visitor, client: httpx.Client, photo: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "gone.jpg"
    path.write_bytes(photo)
    visited = visit(client)
    page = visited.page
    page.set_input_files("#files", path)
    expect(cards(page)).to_have_count(1)
    path.unlink()
    page.get_by_role("button", name="Analyze again").click()
    expect(page.get_by_role("alert")).to_contain_text("unreadable_file")
    visited.complaints = [text for text in visited.complaints if "ERR_FILE_NOT_FOUND" not in text]


def test_all_that_failed_are_asked_about_again(visit: Visitor, client: httpx.Client) -> None:
    visited = visit(client)
    page = visited.page
    again = page.get_by_role("button", name="Analyze all that failed")
    page.set_input_files("#files", PHOTO)
    expect(cards(page)).to_have_count(1)
    page.context.set_offline(True)
    page.set_input_files("#files", [PHOTO, PHOTO, PHOTO])
    expect(page.locator("#strip .failed")).to_have_count(3)
    page.context.set_offline(False)
    with page.expect_request("**/detect-emotions"):
        again.press("Enter")
    expect(page.get_by_role("button", name="Analyze again")).to_be_focused()
    expect(page.locator("#strip .done")).to_have_count(4)
    expect(again).to_be_hidden()
    visited.complaints = [text for text in visited.complaints if "ERR_INTERNET_DISCONNECTED" not in text]


def test_the_end_of_many_is_said_and_one_that_failed_among_them_can_be_asked_about_again(
    visit: Visitor, client: httpx.Client, tmp_path: Path
) -> None:
    (tmp_path / "letter.pdf").write_bytes(b"%PDF-1.4")
    visited = visit(client)
    visited.statuses = {415}
    page = visited.page
    again = page.get_by_role("button", name="Analyze all that failed")
    held: list[Route] = []
    page.route("**/detect-emotions*", lambda route: route.continue_() if held else held.append(route))
    page.set_input_files("#files", [PHOTO, tmp_path / "letter.pdf", PHOTO])
    # The one that is shown, which is asked about first, may be the last.
    expect(page.locator("#strip .failed, #strip .done")).to_have_count(2)
    held[0].continue_()
    expect(page.get_by_role("status")).to_have_text(re.compile("3 photos, 1 failed$"))
    expect(again).to_be_visible()
    page.locator("#strip .failed").click()
    expect(again).to_be_hidden()


def test_every_control_changes_the_question(visit: Visitor, client: httpx.Client) -> None:
    visited = visit(client)
    visited.statuses = {422}
    page = visited.page
    page.set_input_files("#files", PHOTO)
    expect(cards(page)).to_have_count(1)
    open_settings(page)
    names = [model["name"] for model in client.get("/models").json()["models"]]
    expect(page.get_by_label("Model").locator("option")).to_have_count(len(names))
    page.get_by_label("Smallest face").fill("300")
    page.get_by_label("Smallest face").press("Tab")
    expect(page.get_by_text("No face was found")).to_be_visible()
    expect(page.locator("#curl")).to_contain_text("min_face_size=300")
    page.get_by_label("Smallest face").fill("5")
    page.get_by_label("Smallest face").press("Tab")
    expect(page.get_by_role("alert")).to_contain_text("min_face_size")
    expect(page.get_by_label("Smallest face")).to_have_attribute("aria-invalid", "true")
    page.get_by_role("button", name="Reset").click()
    expect(cards(page)).to_have_count(1)
    page.get_by_label("Least detection confidence").press("End")
    expect(page.locator("#min-confidence-value")).to_have_text("100 %")
    expect(page.locator("#curl")).to_contain_text("min_confidence=1")
    expect(page.get_by_text("No face was found")).to_be_visible()
    expect(page.locator("#settings-changed")).to_be_visible()
    page.get_by_role("button", name="Reset").click()
    expect(page.locator("#settings-changed")).to_be_hidden()
    page.get_by_label("Most faces").fill("1")
    page.get_by_label("Most faces").press("Tab")
    expect(page.locator("#curl")).to_contain_text("max_faces=1")
    expect(cards(page)).to_have_count(1)


@pytest.mark.parametrize("wrong", ["5", "12.5"])
def test_a_value_that_is_marked_as_wrong_is_told_and_not_sent(
    visit: Visitor, client: httpx.Client, wrong: str
) -> None:
    page = visit(client).page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_input_files("#files", PHOTO)
    expect(cards(page)).to_have_count(1)
    open_settings(page)
    field = page.get_by_label("Smallest face")
    field.press_sequentially(wrong)
    field.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("a whole number from 12 to 65535")
    page.set_input_files("#files", PHOTO)
    expect(page.locator("#strip .done")).to_have_count(2)
    assert [url for url in asked if "?" in url] == []
    field.fill("300")
    field.press("Enter")
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_text("No face was found")).to_be_visible()


def test_settings_are_said_as_they_are_shown(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    open_settings(page)
    field = page.get_by_label("Least detection confidence")
    expect(field).to_have_attribute("aria-valuetext", "0 %")
    field.press("End")
    expect(field).to_have_attribute("aria-valuetext", "100 %")


def test_a_page_that_one_comes_back_to_has_its_defaults(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    open_settings(page)
    page.get_by_label("Smallest face").fill("300")
    page.get_by_label("Smallest face").press("Tab")
    expect(page.locator("#settings-changed")).to_be_visible()
    page.goto(f"{client.base_url}/livez")
    page.go_back()
    expect(page.locator("#min-face-size")).to_have_value("")
    page.set_input_files("#files", PHOTO)
    expect(cards(page)).to_have_count(1)
    expect(page.locator("#settings-changed")).to_be_hidden()


def test_another_model_is_asked_by_name(visit: Visitor, client: httpx.Client) -> None:
    others = [model["name"] for model in client.get("/models").json()["models"] if not model["default"]]
    page = visit(client).page
    page.set_input_files("#files", PHOTO)
    open_settings(page)
    for name in others:
        page.get_by_label("Model").select_option(name)
        expect(page.locator("#photo-timings")).to_contain_text(f"model {name}")
        expect(page.locator("#curl")).to_contain_text(f"model={name}")
    page.get_by_label("Model").select_option("")
    expect(page.locator("#photo-timings")).to_contain_text("model balanced")


def test_json_and_curl_are_copied(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client, permissions=["clipboard-read", "clipboard-write"]).page
    page.set_input_files("#files", PHOTO)
    expect(cards(page)).to_have_count(1)
    # A browser that translates the page is to leave them alone.
    for place in ("#json", "#curl"):
        assert page.locator(place).evaluate("(text) => text.translate") is False
    page.locator("#copy-json").click()
    expect(page.locator("#copy-json")).to_have_text("Copied")
    copied = json.loads(page.evaluate("() => navigator.clipboard.readText()"))
    assert copied["faces"][0]["dominant_emotion"] == "happy"
    page.locator("#copy-curl").click()
    expect(page.locator("#copy-curl")).to_have_text("Copied")
    line = page.evaluate("() => navigator.clipboard.readText()")
    assert line.startswith(f"curl '{client.base_url.join('/detect-emotions')}'")
    assert "--data-binary '@astronaut.jpg'" in line


def test_the_curl_line_quotes_what_a_file_is_called(
    visit: Visitor, client: httpx.Client, photo: bytes
) -> None:
    page = visit(client).page
    files = transfer(page, ("it's $(odd).jpg", "image/jpeg", photo))
    page.dispatch_event("#drop", "drop", {"dataTransfer": files})
    expect(page.locator("#curl")).to_contain_text(r"--data-binary '@it'\''s $(odd).jpg'")


def test_a_name_from_right_to_left_turns_nothing_else_around(
    visit: Visitor, client: httpx.Client, photo: bytes
) -> None:
    page = visit(client).page
    files = transfer(page, ("\u202egpj.photo.jpg", "image/jpeg", photo))
    page.dispatch_event("#drop", "drop", {"dataTransfer": files})
    caption = page.locator("#photo-caption")
    expect(caption).to_contain_text("512")
    first, last = caption.evaluate(ENDS)
    assert first < last


def test_the_annotated_picture_is_saved(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    page.set_input_files("#files", PHOTO)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the annotated picture").click()
    assert download.value.suggested_filename == "astronaut-annotated.jpg"
    assert Path(download.value.path()).read_bytes().startswith(b"\xff\xd8")


def test_a_picture_that_is_not_saved_is_told_with_its_photo(visit: Visitor, client: httpx.Client) -> None:
    visited = visit(client)
    visited.statuses = {401}
    page = visited.page
    page.set_input_files("#files", [PHOTO, PHOTO])
    expect(page.locator("#strip .done")).to_have_count(2)
    problem = '{"title": "No", "detail": "No key", "code": "unauthorized"}'
    answer = {"status": 401, "content_type": "application/problem+json", "body": problem}
    page.route("**/detect-emotions", lambda route: route.fulfill(**answer))
    hold_questions(page)
    for shown, alerts in ((0, 1), (1, 0)):
        page.locator("#strip button").first.click()
        page.get_by_role("button", name="Save the annotated picture").click()
        page.locator("#strip button").nth(shown).click()
        with page.expect_response("**/detect-emotions"):
            let_go(page, shown)
        expect(page.get_by_label("This service asks for an API key")).to_be_visible()
        expect(page.get_by_role("alert")).to_have_count(alerts)


def test_a_format_that_the_browser_lacks_is_shown_as_the_service_drew_it(
    visit: Visitor, client: httpx.Client, photo: bytes, tmp_path: Path
) -> None:
    tiff = tmp_path / "astronaut.tiff"
    Image.open(BytesIO(photo)).save(tiff)
    page = visit(client).page
    page.set_input_files("#files", tiff)
    expect(cards(page)).to_have_count(1)
    expect(page.locator("#photo-overlay .box")).to_have_count(0)
    assert page.locator("#photo").evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 512
    button = page.get_by_role("button", name="Show face 1 in the picture")
    button.click()
    expect(page.locator("#photo-overlay .box.lit .label")).to_contain_text("1 happy")
    button.click()
    expect(page.locator("#photo-overlay .box")).to_have_count(0)


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "avif"])
def test_a_picture_that_moves_is_shown_as_the_service_saw_it(
    visit: Visitor, client: httpx.Client, tmp_path: Path, kind: str
) -> None:
    face = Image.open(PHOTO).convert("RGB")
    path = tmp_path / f"moving.{kind}"
    others = [Image.new("RGB", face.size, color) for color in ("red", "blue")]
    face.save(path, save_all=True, append_images=others, duration=40, loop=0)
    page = visit(client).page
    page.set_input_files("#files", path)
    expect(cards(page).locator("h3")).to_contain_text("happy")
    expect(page.locator("#photo-overlay .box")).to_have_count(0)


@pytest.mark.parametrize("case", ["at the right edge", "from top to bottom"])
def test_the_whole_label_is_in_the_picture(
    visit: Visitor, client: httpx.Client, tmp_path: Path, case: str
) -> None:
    path = tmp_path / "edge.png"
    photo = Image.open(PHOTO).convert("RGB")
    if case == "at the right edge":
        face = photo.crop((170, 20, 262, 220)).resize((147, 320))
        picture = Image.new("RGB", (900, 640), "gray")
        picture.paste(face, (753, 100))
    else:
        picture = photo.crop((170, 66, 280, 176)).resize((440, 440))
    picture.save(path)
    page = visit(client).page
    page.set_input_files("#files", path)
    label = page.locator("#photo-overlay .label")
    expect(label.locator(".words")).to_be_visible()
    assert label.evaluate(INSIDE)


def test_a_strip_of_a_picture_can_be_seen(visit: Visitor, client: httpx.Client, tmp_path: Path) -> None:
    strip = Image.new("RGB", (6000, 240), "gray")
    strip.paste(Image.open(PHOTO).crop((120, 0, 360, 240)), (5600, 0))
    page = visit(client).page
    for name, picture in (("wide.png", strip), ("tall.png", strip.transpose(Image.Transpose.ROTATE_270))):
        picture.save(tmp_path / name)
        page.set_input_files("#files", tmp_path / name)
        expect(page.locator("#photo-caption")).to_contain_text(f"{name} · ")
        expect(page.locator("#photo-caption")).to_contain_text("6000")
        shown = page.locator("#photo").bounding_box()
        assert shown is not None
        assert min(shown["width"], shown["height"]) >= 80
        assert page.evaluate(OVERFLOW) == 0
    page.locator("#strip button").first.click()
    page.get_by_role("button", name="Show face 1 in the picture").click()
    expect(page.locator("#photo-overlay .box.lit")).to_be_in_viewport()


@pytest.mark.parametrize("size", [(600, 900), (6000, 60), (60, 6000)])
def test_a_photo_that_waits_is_neither_too_small_nor_taller_than_the_window(
    visit: Visitor, client: httpx.Client, tmp_path: Path, size: tuple[int, int]
) -> None:
    Image.new("RGB", size, "gray").save(tmp_path / "gray.png")
    page = visit(client).page
    hold_questions(page)
    page.set_input_files("#files", tmp_path / "gray.png")
    page.wait_for_function("() => held.length > 0")
    picture = page.locator("#photo")
    assert picture.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == size[0]
    waiting = picture.bounding_box()
    assert waiting is not None
    assert min(waiting["width"], waiting["height"]) >= 80
    assert waiting["height"] <= page.evaluate("() => 0.68 * innerHeight") + 1
    let_go(page, 0)
    expect(page.get_by_text("No face was found")).to_be_visible()
    if size == (600, 900):
        assert picture.bounding_box() == pytest.approx(waiting, abs=1)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("format_", ["webp", "jpeg", "png", "avif"])
def test_a_photo_that_is_stored_turned_is_shown_upright(
    visit: Visitor, client: httpx.Client, tmp_path: Path, format_: str, orientation: int
) -> None:
    upright = Image.new("RGB", (612, 562), "red")
    upright.paste("blue", (0, 0, 612, 50))
    upright.paste(Image.open(PHOTO), (100, 50))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"turned.{format_}"
    upright.transpose(STORED[orientation]).save(path, exif=exif)
    page = visit(client).page
    page.set_input_files("#files", path)
    expect(cards(page).locator("h3")).to_contain_text("happy")
    expect(page.locator("#photo-overlay .box")).to_have_count(0 if format_ == "webp" else 1)
    picture = page.locator("#photo")
    left, top = (picture.evaluate(PIXEL, place) for place in ([0.05, 0.5], [0.5, 0.04]))
    assert left[:3] == pytest.approx([255, 0, 0], abs=50)
    assert top[:3] == pytest.approx([0, 0, 255], abs=50)


def test_a_key_is_asked_for_and_kept_in_memory_only(visit: Visitor, serve: Serve) -> None:
    with serve(api_keys="let-me-in") as client:
        visited = visit(client)
        visited.statuses = {401}
        page = visited.page
        key = page.get_by_label("This service asks for an API key")
        expect(key).to_be_visible()
        expect(page.get_by_role("status")).to_contain_text("asks for an API key")
        page.set_input_files("#files", PHOTO)
        expect(page.get_by_role("alert")).to_contain_text("unauthorized")
        key.fill("let-me-in")
        key.press("Enter")
        expect(cards(page)).to_have_count(1)
        expect(key).to_be_hidden()
        expect(page.locator("#curl")).to_contain_text('-H "X-API-Key: $FER_CLIENT_API_KEY"')
        assert "let-me-in" not in page.content() + page.url
        assert (
            page.evaluate("() => localStorage.length + sessionStorage.length + document.cookie.length") == 0
        )


def test_a_key_that_is_not_taken_is_told_in_words(visit: Visitor, serve: Serve) -> None:
    with serve(api_keys="let-me-in") as client:
        visited = visit(client)
        visited.statuses = {401}
        page = visited.page
        key = page.get_by_label("This service asks for an API key")
        alert = page.get_by_role("alert")
        for wrong, told in (
            ("wrong", re.compile(r"no valid key.*Code unauthorized, request \w+")),
            ("Schlüssel", "characters that cannot be sent"),
            ("ключ", "characters that cannot be sent"),
        ):
            key.fill(wrong)
            key.press("Enter")
            expect(alert).to_contain_text(told)
            expect(key).to_be_focused()
            expect(key).to_have_value("")
            expect(page.get_by_role("status")).to_be_empty()
        key.fill("let-me-in")
        key.press("Enter")
        expect(page.get_by_role("status")).to_have_text("Key taken")
        expect(page.locator("#choose")).to_be_focused()
        expect(page.locator("#model option")).not_to_have_count(1)
        expect(alert).to_have_count(0)
        expect(key).to_be_hidden()


def test_everything_is_reached_by_keyboard(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    # Dialogs are intercepted from the first listener on, but not before the next key if both come at once.
    page.on("filechooser", lambda _: None)
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    for name in ("API", "About the numbers"):
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name=name)).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#tab-photos")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#panel-camera")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#panel-photos")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Model")).to_be_visible()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#choose")).to_be_focused()
    assert page.locator("#choose").evaluate(OUTLINE) == "solid"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(PHOTO)
    expect(cards(page)).to_have_count(1)
    reached = []
    for _ in range(7):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("() => document.activeElement.id || document.activeElement.className"))
    assert reached == ["download", "retry", "clear", "portrait", "copy-curl", "curl", "copy-json"]


def test_a_card_brings_its_face_forward(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    page.set_input_files("#files", PHOTO)
    button = page.get_by_role("button", name="Show face 1 in the picture")
    button.press("Space")
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#photo-overlay .box")).to_have_class("box lit")
    button.press("Space")
    expect(page.locator("#photo-overlay .box")).to_have_class("box")


def test_a_photo_that_finishes_leaves_the_shown_one_alone(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    hold_questions(page)
    page.set_input_files("#files", [PHOTO, PHOTO, PHOTO])
    let_go(page, 0)
    button = page.get_by_role("button", name="Show face 1 in the picture")
    button.press("Space")
    for number in (1, 2):
        let_go(page, number)
        expect(page.locator("#strip button").nth(number)).to_contain_text("1 face")
        expect(button).to_be_focused()
        expect(button).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#photo-overlay .box")).to_have_class("box lit")


def test_a_press_is_not_lost_while_another_photo_finishes(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    hold_questions(page)
    page.set_input_files("#files", [PHOTO, PHOTO, PHOTO])
    page.locator("#strip button").nth(2).hover()
    page.mouse.down()
    let_go(page, 1)
    expect(page.locator("#strip button").nth(1)).to_contain_text("1 face")
    page.mouse.up()
    expect(page.locator("#strip button").nth(2)).to_have_attribute("aria-current", "true")


def test_all_photos_are_removed(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    page.set_input_files("#files", [PHOTO, PHOTO])
    expect(page.locator("#strip button")).to_have_count(2)
    page.get_by_role("button", name="Remove all photos").click()
    expect(page.locator("#result")).to_be_hidden()
    expect(page.locator("#strip")).to_be_hidden()
    expect(page.locator("#choose")).to_be_focused()


def test_what_was_asked_for_comes_into_view(visit: Visitor, client: httpx.Client, tmp_path: Path) -> None:
    """On a laptop with the page enlarged to 200 % all of it would be below the window."""
    (tmp_path / "letter.pdf").write_bytes(b"%PDF-1.4")
    visited = visit(client, viewport={"width": 640, "height": 400})
    visited.statuses = {415}
    page = visited.page
    page.set_input_files("#files", [PHOTO, tmp_path / "letter.pdf"])
    expect(page.locator("#photo-stage")).to_be_in_viewport(ratio=1)
    page.locator("#strip .failed").press("Enter")
    expect(page.get_by_role("alert")).to_be_in_viewport(ratio=1)
    page.evaluate("() => scrollTo(0, 0)")
    page.locator("#strip button").first.press("Enter")
    expect(page.locator("#photo-stage")).to_be_in_viewport(ratio=1)


@pytest.mark.parametrize(("width", "text"), [(320, "100%"), (390, "100%"), (360, "200%")])
def test_a_phone_needs_no_sideways_scrolling(
    visit: Visitor, client: httpx.Client, width: int, text: str
) -> None:
    page = visit(client, viewport={"width": width, "height": 800}).page
    page.evaluate("(size) => { document.documentElement.style.fontSize = size; }", text)
    page.set_input_files("#files", [PHOTO, PHOTO, PHOTO, PHOTO])
    expect(cards(page)).to_have_count(1)
    open_settings(page)
    assert page.evaluate(OVERFLOW) == 0
    page.locator("#tab-camera").click()
    assert page.evaluate(OVERFLOW) == 0


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_the_page_follows_the_colour_scheme(
    visit: Visitor, client: httpx.Client, scheme: str, dark: bool
) -> None:
    page = visit(client, color_scheme=scheme).page
    text, ground = page.evaluate(
        "() => [getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert (brightness(ground) < brightness(text)) is dark
    assert abs(brightness(ground) - brightness(text)) > 180


def brightness(color: str) -> float:
    channels = [int(part) for part in color.removeprefix("rgb(").removesuffix(")").split(",")]
    return sum(channels) / 3
