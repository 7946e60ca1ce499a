"""The camera on the page, with a fake device that shows a real face."""

import json
import re
from collections.abc import Callable
from threading import Event

import httpx
import pytest
from playwright.sync_api import Page, WebSocket, WebSocketRoute, expect

from tests.browser.conftest import Visitor, transfer
from tests.conftest import Serve, until

YELLOW_PIXELS = """(canvas) => {
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let found = 0;
  for (let i = 0; i < data.length; i += 4) {
    if (data[i] > 200 && data[i + 1] > 190 && data[i + 2] < 120) found++;
  }
  return found;
}"""
REFUSE_CAMERA = """() => {
  navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("", "NotFoundError"));
}"""
# The permission, and then the playing, come when the test says so.
HOLD_CAMERA = """() => {
  const held = Object.fromEntries(["permission", "playing"].map((name) => {
    let grant;
    return [name, {until: new Promise((resolve) => { grant = resolve; }), grant: () => grant()}];
  }));
  const {mediaDevices} = navigator;
  const open = mediaDevices.getUserMedia.bind(mediaDevices);
  const tracks = [];
  mediaDevices.getUserMedia = async (wanted) => {
    await held.permission.until;
    const media = await open(wanted);
    tracks.push(...media.getTracks());
    return media;
  };
  const {play} = HTMLMediaElement.prototype;
  HTMLMediaElement.prototype.play = async function () {
    held.reached = true;
    await held.playing.until;
    return play.call(this);
  };
  Object.assign(window, {held, tracks});
}"""
FORBID_PLAYING = """() => {
  HTMLMediaElement.prototype.play = () => Promise.reject(new DOMException("", "NotAllowedError"));
}"""
RELEASED = "() => tracks.length > 0 && tracks.every((track) => track.readyState === 'ended')"
PASTE = """(data) => document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data}))"""
SPOIL_FRAMES = """() => {
  HTMLCanvasElement.prototype.toBlob = (take) => take(new Blob(["no image"]));
}"""
# A phone: one camera more, on its back; it shows the same.
TWO_CAMERAS = """() => {
  const {mediaDevices} = navigator;
  const list = mediaDevices.enumerateDevices.bind(mediaDevices);
  const open = mediaDevices.getUserMedia.bind(mediaDevices);
  const back = {kind: "videoinput", deviceId: "back", label: "Back Camera"};
  mediaDevices.enumerateDevices = async () => [...await list(), back];
  mediaDevices.getUserMedia = async (wanted) => {
    const media = await open({video: true});
    const [track] = media.getVideoTracks();
    const settings = {deviceId: "back", facingMode: "environment"};
    if (wanted.video.deviceId === "back") track.getSettings = () => settings;
    return media;
  };
}"""
TALL_CAMERA = """() => {
  const canvas = document.createElement("canvas");
  const context = Object.assign(canvas, {width: 360, height: 720}).getContext("2d");
  const draw = () => { context.fillRect(0, 0, 360, 720); requestAnimationFrame(draw); };
  draw();
  navigator.mediaDevices.getUserMedia = async () => canvas.captureStream();
}"""
# As beside OBS, which has the camera and offers its own.
BUSY_CAMERA = """() => {
  const {mediaDevices} = navigator;
  const open = mediaDevices.getUserMedia.bind(mediaDevices);
  const [real, virtual] = ["Integrated Camera", "OBS Virtual Camera"].map((label) =>
    ({kind: "videoinput", deviceId: label, label}));
  mediaDevices.enumerateDevices = async () => [real, virtual];
  mediaDevices.getUserMedia = async ({video}) => {
    if (video.deviceId !== virtual.deviceId) throw new DOMException("", "NotReadableError");
    return open({video: true});
  };
}"""
FORBID_CONNECTIONS = """() => {
  const meta = document.createElement("meta");
  Object.assign(meta, {httpEquiv: "Content-Security-Policy", content: "connect-src 'none'"});
  document.head.append(meta);
}"""
# As in a page that is hidden, whose frames the browser keeps to itself.
HIDE = """() => { window.unseen = true; }"""
SHOW = """() => { window.unseen = false; window.next?.(); }"""
HIDEABLE = """() => {
  const {prototype} = HTMLVideoElement;
  const ask = prototype.requestVideoFrameCallback;
  prototype.requestVideoFrameCallback = function (next) {
    return ask.call(this, () => { if (unseen) window.next = next; else next(); });
  };
  window.unseen = false;
}"""
LOSE_CAMERA = """(video) => {
  const [track] = video.srcObject.getVideoTracks();
  track.stop();
  track.dispatchEvent(new Event("ended"));
}"""
COUNT_ALERTS = """() => {
  window.alerts = 0;
  const count = () => { alerts += document.querySelectorAll("#live-problem [role=alert]").length; };
  new MutationObserver(count).observe(document.getElementById("live-problem"), {childList: true});
}"""
COUNT_WORDS = """(canvas) => {
  window.changes = 0;
  new MutationObserver(() => changes++).observe(canvas, {attributeFilter: ["aria-label"]});
}"""
# A face that was not seen for a second has a new number: a busy machine may take so long for a frame.
ATTEMPTS = 5
CAMERA_OPEN = "(video) => video.srcObject !== null"


def start(page: Page) -> WebSocket:
    page.locator("#tab-camera").click()
    with page.expect_websocket() as socket:
        page.get_by_role("button", name="Start the camera").click()
    return socket.value


def answers(socket: WebSocket, count: int) -> None:
    """Wait for so many answers."""
    for _ in range(count):
        socket.wait_for_event("framereceived")


def keeps_its_number(page: Page, socket: WebSocket) -> bool:
    """Whether the one face is called the same twenty answers later."""
    card = page.locator("#live-faces .face-card")
    name = card.get_attribute("aria-label")
    answers(socket, 20)
    return card.get_attribute("aria-label") == name


def test_a_live_face_is_followed(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    socket = start(page)
    card = page.locator("#live-faces .face-card")
    expect(card).to_have_count(1)
    expect(card.locator("h3")).to_contain_text("happy")
    expect(page.locator("#live-overlay .box")).to_have_count(1)
    assert any(keeps_its_number(page, socket) for _ in range(ATTEMPTS))
    expect(page.locator("#rate")).to_have_text(re.compile(r"^\d+\.\d /s$"))
    expect(page.locator("#latency")).to_have_text(re.compile(r"^[\d.]+ ms$"))
    expect(page.locator("#live-count")).to_have_text("1")
    expect(page.locator("#live-timings li")).not_to_have_count(0)
    expect(page.locator("#chart")).to_have_attribute("aria-label", re.compile("now .*happy [5-9]\\d %"))
    assert page.locator("#chart").evaluate(YELLOW_PIXELS) > 20


def test_the_chart_follows_the_chosen_face(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    start(page)
    number = page.locator("#live-faces .face-card").get_attribute("aria-label")
    assert number is not None
    page.get_by_label("Of which faces").select_option(label=number.lower())
    expect(page.locator("#chart")).to_have_attribute("aria-label", re.compile("now .*happy"))


def test_stopping_lets_go_of_camera_and_connection(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    socket = start(page)
    expect(page.locator("#live-faces .face-card")).to_have_count(1)
    with socket.expect_event("close"):
        page.get_by_role("button", name="Stop the camera").click()
    expect(page.locator("#live")).to_be_hidden()
    expect(page.locator("#rate")).to_have_text("–")  # noqa: RUF001
    assert page.locator("#video").evaluate(CAMERA_OPEN) is False
    start(page)
    expect(page.locator("#live-faces .face-card")).to_have_count(1)


@pytest.mark.parametrize("shape", ["wide", "tall"])
def test_the_whole_picture_comes_into_view(visit: Visitor, client: httpx.Client, shape: str) -> None:
    page = visit(client, viewport={"width": 640, "height": 400}).page
    if shape == "tall":
        page.evaluate(TALL_CAMERA)
    start(page)
    video = page.locator("#video")
    expect(video).to_be_in_viewport(ratio=1)
    wide, high = video.evaluate("(video) => [video.clientWidth, video.clientHeight]")
    assert wide / high == pytest.approx(4 / 3 if shape == "wide" else 1 / 2, rel=0.02)


def test_a_browser_that_does_not_tell_of_frames_sends_them_too(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    page.evaluate("() => delete HTMLVideoElement.prototype.requestVideoFrameCallback")
    start(page)
    expect(page.locator("#live-faces .face-card")).to_have_count(1)


def test_leaving_for_the_photos_stops_the_camera(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    socket = start(page)
    expect(page.locator("#live-faces .face-card")).to_have_count(1)
    with socket.expect_event("close"):
        page.locator("#tab-photos").click()
    assert page.locator("#video").evaluate(CAMERA_OPEN) is False


def leave(page: Page, way: str, photo: bytes) -> None:
    if way == "tab":
        page.locator("#tab-photos").click()
    elif way == "button":
        page.get_by_role("button", name="Cancel").click()
    else:
        page.evaluate(PASTE, transfer(page, ("pasted.jpg", "image/jpeg", photo)))


@pytest.mark.parametrize("way", ["tab", "button", "paste"])
@pytest.mark.parametrize("pending", ["permission", "playing"])
def test_a_camera_that_is_not_open_yet_stays_closed_after_a_stop(
    visit: Visitor, client: httpx.Client, photo: bytes, way: str, pending: str
) -> None:
    page = visit(client).page
    streams: list[str] = []
    page.on("websocket", lambda socket: streams.append(socket.url))
    page.evaluate(HOLD_CAMERA)
    page.locator("#tab-camera").click()
    page.get_by_role("button", name="Start the camera").click()
    if pending == "playing":
        page.evaluate("() => held.permission.grant()")
        page.wait_for_function("() => held.reached")
    leave(page, way, photo)
    page.evaluate("() => { held.permission.grant(); held.playing.grant(); }")
    page.wait_for_function(RELEASED)
    assert page.locator("#video").evaluate(CAMERA_OPEN) is False
    page.locator("#tab-camera").click()
    expect(page.locator("#live")).to_be_hidden()
    expect(page.get_by_role("alert")).to_have_count(0)
    assert streams == []
    start(page)
    expect(page.locator("#live-faces .face-card")).to_have_count(1)


def test_a_camera_that_may_not_play_is_let_go(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    page.evaluate(HOLD_CAMERA)
    page.evaluate(FORBID_PLAYING)
    page.evaluate("() => held.permission.grant()")
    page.locator("#tab-camera").click()
    page.get_by_role("button", name="Start the camera").click()
    expect(page.get_by_role("alert")).to_contain_text("The camera cannot be opened")
    expect(page.get_by_role("button", name="Start the camera")).to_be_enabled()
    page.wait_for_function(RELEASED)


def test_the_view_is_mirrored_where_that_is_wished(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    start(page)
    expect(page.locator("#live-stage")).to_have_class("stage mirrored")
    page.get_by_label("Mirror the view").press("Space")
    expect(page.locator("#live-stage")).to_have_class("stage")


def test_settings_hold_for_the_live_view(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    start(page)
    expect(page.locator("#live-faces .face-card")).to_have_count(1)
    page.locator("#settings > summary").click()
    page.get_by_label("Smallest face").fill("600")
    with page.expect_websocket() as socket:
        page.get_by_label("Smallest face").press("Tab")
    assert "min_face_size=600" in socket.value.url
    expect(page.get_by_text("No face in view")).to_be_visible()


def test_a_camera_that_is_not_there_is_told_in_words(visit: Visitor, client: httpx.Client) -> None:
    visited = visit(client)
    visited.page.evaluate(REFUSE_CAMERA)
    visited.page.locator("#tab-camera").click()
    visited.page.get_by_role("button", name="Start the camera").click()
    expect(visited.page.get_by_role("alert")).to_contain_text("No camera was found")
    expect(visited.page.get_by_role("button", name="Start the camera")).to_be_enabled()


def test_beside_a_camera_that_another_program_uses_another_can_be_chosen(
    visit: Visitor, client: httpx.Client
) -> None:
    page = visit(client).page
    page.evaluate(BUSY_CAMERA)
    page.locator("#tab-camera").click()
    page.get_by_role("button", name="Start the camera").click()
    expect(page.get_by_role("alert")).to_contain_text("Another program is using it")
    page.get_by_role("combobox", name="Camera").select_option("OBS Virtual Camera")
    start(page)
    expect(page.locator("#live-faces .face-card")).to_have_count(1)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_frames_that_fail_alike_are_told_once_and_end_nothing(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    page.evaluate(SPOIL_FRAMES)
    page.evaluate(COUNT_ALERTS)
    answers(start(page), 6)
    expect(page.get_by_role("alert")).to_contain_text("Code unsupported_media_type")
    assert page.evaluate("() => alerts") == 1
    expect(page.get_by_role("button", name="Stop the camera")).to_be_visible()


def test_a_camera_that_is_lost_is_told_in_words(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    socket = start(page)
    expect(page.locator("#live-faces .face-card")).to_have_count(1)
    with socket.expect_event("close"):
        page.locator("#video").evaluate(LOSE_CAMERA)
    expect(page.get_by_role("alert")).to_contain_text("Code camera_lost")
    expect(page.get_by_role("button", name="Start the camera")).to_be_visible()


def hold_answers(page: Page) -> tuple[Event, list[Callable[[], None]]]:
    """Start the camera; while the event is set, answers wait in the list for who calls them."""
    silent = Event()
    silent.set()
    held: list[Callable[[], None]] = []

    def route(socket: WebSocketRoute) -> None:
        def answer(text: str | bytes) -> None:
            if silent.is_set():
                held.append(lambda: socket.send(text))
            else:
                socket.send(text)

        socket.connect_to_server().on_message(answer)

    page.route_web_socket("**/stream", route)
    page.clock.install()
    page.locator("#tab-camera").click()
    page.get_by_role("button", name="Start the camera").click()
    return silent, held


def come(page: Page, held: list[Callable[[], None]], count: int) -> None:
    """Wait until so many answers are held; events come in while the page is asked something."""
    until(lambda: page.evaluate("() => true") and len(held) >= count)


def test_the_rate_of_slow_answers_is_told(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    _, held = hold_answers(page)
    come(page, held, 1)
    page.clock.fast_forward(1000)
    held[0]()
    expect(page.locator("#live-count")).to_have_text("1")
    expect(page.locator("#rate")).to_have_text("–")  # noqa: RUF001
    come(page, held, 2)
    page.clock.fast_forward(4000)
    held[1]()
    expect(page.locator("#rate")).to_have_text(re.compile(r"^0\.[12] /s$"))


def test_a_service_that_falls_silent_is_told_until_it_answers(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    silent, held = hold_answers(page)
    expect(page.get_by_text("No answer yet")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    page.clock.fast_forward(9000)
    expect(page.get_by_role("alert")).to_contain_text("Code no_answer")
    silent.clear()
    for send in held:
        send()
    expect(page.locator("#live-faces .face-card")).to_have_count(1)
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_role("button", name="Stop the camera")).to_be_visible()
    # Nor do boxes of long ago lie over a picture that moves on.
    before = len(held)
    silent.set()
    come(page, held, before + 1)
    page.clock.fast_forward(9000)
    expect(page.get_by_role("alert")).to_contain_text("Code no_answer")
    expect(page.locator("#live-overlay .box")).to_have_count(0)


def stop_the_clock(page: Page) -> None:
    """Let no more time pass on the page."""
    page.clock.pause_at(page.evaluate("() => Date.now() + 1000"))


def test_a_face_that_is_missed_once_keeps_its_card(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    missed = Event()

    def route(socket: WebSocketRoute) -> None:
        def answer(text: str | bytes) -> None:
            socket.send(json.dumps({**json.loads(text), "faces": []}) if missed.is_set() else text)

        socket.connect_to_server().on_message(answer)

    page.route_web_socket("**/stream", route)
    page.clock.install()
    page.locator("#tab-camera").click()
    page.get_by_role("button", name="Start the camera").click()
    portrait = page.get_by_role("button", name=re.compile("Show face"))
    portrait.press("Space")
    expect(page.locator("#live-overlay .box.lit")).to_have_count(1)
    stop_the_clock(page)
    # An answer draws it again: the face was seen since the clock stands still.
    page.locator("#live-overlay").evaluate("(overlay) => overlay.replaceChildren()")
    expect(page.locator("#live-overlay .box.lit")).to_have_count(1)
    missed.set()
    expect(page.locator("#live-overlay .box")).to_have_count(0)
    missed.clear()
    expect(page.locator("#live-overlay .box.lit")).to_have_count(1)
    expect(portrait).to_be_focused()
    expect(portrait).to_have_attribute("aria-pressed", "true")
    missed.set()
    expect(page.locator("#live-overlay .box")).to_have_count(0)
    page.clock.run_for(1000)
    expect(portrait).to_have_count(0)
    expect(page.get_by_text("No face in view")).to_be_visible()


def test_the_chart_s_words_change_no_faster_than_people_read(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client, reduced_motion="no-preference").page
    page.clock.install()
    socket = start(page)
    expect(page.locator("#chart")).to_have_attribute("aria-label", re.compile("now .*happy"))
    stop_the_clock(page)
    answers(socket, 3)
    page.locator("#chart").evaluate(COUNT_WORDS)
    answers(socket, 3)
    assert page.evaluate("() => changes") == 0


def test_what_is_told_of_a_view_that_goes_on_ends_with_it(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    page.route_web_socket("**/stream", lambda _: None)
    page.clock.install()
    page.locator("#tab-camera").click()
    page.get_by_role("button", name="Start the camera").click()
    expect(page.get_by_text("No answer yet")).to_be_visible()
    page.clock.fast_forward(9000)
    expect(page.get_by_role("alert")).to_contain_text("The view goes on as soon as it does")
    page.get_by_role("button", name="Stop the camera").click()
    expect(page.get_by_role("alert")).to_have_count(0)


class Broken:
    """The page's streams: the first reaches the service until `drop`; later ones only once `back` is set."""

    def __init__(self, page: Page) -> None:
        self.opened: list[WebSocketRoute] = []
        self.back = False
        page.route_web_socket("**/stream", self._open)
        page.clock.install()
        page.locator("#tab-camera").click()
        page.get_by_role("button", name="Start the camera").click()

    def _open(self, socket: WebSocketRoute) -> None:
        self.opened.append(socket)
        if self.back or len(self.opened) == 1:
            socket.connect_to_server()
        else:
            # Each try is told with a code of its own, to be waited for.
            socket.close(code=1013, reason=f"away_{'i' * (len(self.opened) - 1)}: not yet")

    def drop(self) -> None:
        self.opened[-1].close(code=1001, reason="not_ready: the service is shutting down")


def test_a_lost_stream_is_opened_again(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    broken = Broken(page)
    face, alert = page.locator("#live-faces .face-card"), page.get_by_role("alert")
    for _ in range(2):
        broken.back = False
        expect(face).to_have_count(1)
        broken.drop()
        expect(alert).to_contain_text("The connection is lost")
        expect(alert).to_contain_text("the service is shutting down. The page tries to connect again")
        for place in ("#live-overlay .box", "#live-faces .face-card"):
            expect(page.locator(place)).to_have_count(0)
        expect(page.get_by_text("No answer yet")).to_be_visible()
        expect(page.locator("#rate")).to_have_text("–")  # noqa: RUF001
        page.clock.fast_forward(1000)
        expect(alert).to_contain_text("Code away_i")
        broken.back = True
        page.clock.fast_forward(2000)
        expect(face).to_have_count(1)
        expect(alert).to_have_count(0)


def test_a_view_that_nobody_saw_for_long_goes_on(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    page.evaluate(HIDEABLE)
    broken = Broken(page)
    face = page.locator("#live-faces .face-card")
    expect(face).to_have_count(1)
    page.evaluate(HIDE)
    broken.opened[-1].close(code=1000, reason="no frame for 30 s")
    expect(page.get_by_role("alert")).to_contain_text("Code no_frame")
    expect(face).to_have_count(0)
    assert len(broken.opened) == 1
    broken.back = True
    page.evaluate(SHOW)
    expect(face).to_have_count(1)
    expect(page.get_by_role("alert")).to_have_count(0)
    assert len(broken.opened) == 2


def test_a_loss_is_told_that_has_the_code_of_a_frame_that_failed(
    visit: Visitor, client: httpx.Client
) -> None:
    page = visit(client).page
    problem = {"title": "Not ready", "detail": "Not now.", "code": "not_ready"}
    answers: list[str | bytes] = []

    def route(socket: WebSocketRoute) -> None:
        def answer(text: str | bytes) -> None:
            answers.append(text)
            if len(answers) == 1:
                socket.send(text)
            elif len(answers) == 2:
                socket.send(json.dumps({"frame": 2, "status": "error", "error": problem}))
                socket.close(code=1001, reason="not_ready: the service is shutting down")

        socket.connect_to_server().on_message(answer)

    page.route_web_socket("**/stream", route)
    page.clock.install()
    page.locator("#tab-camera").click()
    page.get_by_role("button", name="Start the camera").click()
    expect(page.get_by_role("alert")).to_contain_text("The connection is lost")


def test_a_stream_that_stays_lost_ends_the_live_view(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    broken = Broken(page)
    expect(page.locator("#live-faces .face-card")).to_have_count(1)
    page.locator("#chart-face").focus()
    broken.drop()
    told = "not_ready"
    for tries, pause in enumerate((1000, 2000, 4000, 8000, 16_000), start=1):
        expect(page.get_by_role("alert")).to_contain_text("The connection is lost")
        expect(page.get_by_role("alert")).to_contain_text(re.compile(f"Code {told}$"))
        expect(page.get_by_role("button", name="Stop the camera")).to_be_visible()
        page.clock.fast_forward(pause)
        told = f"away_{'i' * tries}"
    expect(page.get_by_role("alert")).to_contain_text("The live view has ended")
    expect(page.get_by_role("button", name="Start the camera")).to_be_focused()
    assert page.locator("#video").evaluate(CAMERA_OPEN) is False
    assert len(broken.opened) == 6


def test_a_stop_is_the_last_word_on_a_lost_stream(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    broken = Broken(page)
    expect(page.locator("#live-faces .face-card")).to_have_count(1)
    broken.drop()
    expect(page.get_by_role("alert")).to_contain_text("The connection is lost")
    page.get_by_role("button", name="Stop the camera").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    page.clock.fast_forward(60_000)
    expect(page.get_by_role("button", name="Start the camera")).to_be_visible()
    assert len(broken.opened) == 1


def test_another_camera_can_be_chosen(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    choice = page.get_by_role("combobox", name="Camera", include_hidden=True)
    start(page)
    expect(page.locator("#live-faces .face-card")).to_have_count(1)
    expect(choice).to_be_hidden()
    page.get_by_role("button", name="Stop the camera").click()
    page.evaluate(TWO_CAMERAS)
    start(page)
    expect(page.get_by_label("Mirror the view")).to_be_checked()
    with page.expect_websocket():
        choice.select_option("Back Camera")
    expect(page.locator("#live-faces .face-card")).to_have_count(1)
    expect(choice).to_have_value("back")
    expect(page.get_by_label("Mirror the view")).not_to_be_checked()
    expect(page.locator("#live-stage")).to_have_class("stage")
    choice.select_option(index=0)
    expect(page.locator("#live-stage")).to_have_class("stage mirrored")


def test_faces_of_another_connection_are_other_faces(visit: Visitor, client: httpx.Client) -> None:
    page = visit(client).page
    start(page)
    number = page.locator("#live-faces .face-card").get_attribute("aria-label")
    assert number is not None
    page.locator("#chart-face").select_option(label=number.lower())
    page.locator("#settings > summary").click()
    page.get_by_label("Smallest face").fill("600")
    page.get_by_label("Smallest face").press("Tab")
    expect(page.locator("#chart-face")).to_have_value("")
    expect(page.locator("#live-faces .face-card")).to_have_count(0)
    expect(page.locator("#chart-face option")).to_have_count(1)


def test_a_connection_that_an_extension_forbids_is_told(visit: Visitor, client: httpx.Client) -> None:
    visited = visit(client)
    page = visited.page
    page.evaluate(FORBID_CONNECTIONS)
    page.locator("#tab-camera").click()
    page.get_by_role("button", name="Start the camera").click()
    expect(page.get_by_role("alert")).to_contain_text("The connection to the service broke off")
    expect(page.get_by_role("button", name="Start the camera")).to_be_visible()
    visited.complaints = [text for text in visited.complaints if "violates" not in text]


def test_a_refused_stream_says_why_and_lets_go_of_the_camera(visit: Visitor, serve: Serve) -> None:
    with serve(max_streams=0) as client:
        page = visit(client).page
        start(page)
        expect(page.get_by_role("alert")).to_contain_text("Code overloaded")
        expect(page.get_by_role("button", name="Start the camera")).to_be_visible()
        assert page.locator("#video").evaluate(CAMERA_OPEN) is False


def test_a_key_opens_the_live_view_too(visit: Visitor, serve: Serve) -> None:
    with serve(api_keys="let-me-in, ?>~ no word") as client:
        for key in ("let-me-in", "?>~ no word"):
            visited = visit(client)
            visited.statuses = {401}
            page = visited.page
            start(page)
            expect(page.get_by_role("alert")).to_contain_text("unauthorized")
            page.get_by_label("This service asks for an API key").fill(key)
            page.get_by_role("button", name="Use this key").click()
            expect(page.get_by_role("button", name="Start the camera")).to_be_focused()
            expect(page.get_by_role("alert")).to_have_count(0)
            socket = start(page)
            expect(page.locator("#live-faces .face-card")).to_have_count(1)
            assert key not in socket.url
