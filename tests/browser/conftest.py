"""A real Chromium in front of the real server; nothing here is collected by `make test`."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    JSHandle,
    Page,
    Playwright,
    Request,
    WebSocket,
    expect,
    sync_playwright,
)

PHOTO = Path(__file__).parents[1] / "data" / "astronaut.jpg"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
# Long enough for a machine that has much else to do; what works, works far sooner.
PATIENCE_MS = 30_000
VIDEO_SIZE = (640, 480)
VIDEO_FRAMES = 24
TRANSFER = """(files) => {
  const transfer = new DataTransfer();
  const file = ({name, type, bytes}) => new File([new Uint8Array(bytes)], name, {type});
  for (const each of files) transfer.items.add(file(each));
  return transfer;
}"""


def transfer(page: Page, *files: tuple[str, str, bytes]) -> JSHandle:
    """A DataTransfer with files of these names, types and contents."""
    named = [{"name": name, "type": type_, "bytes": list(data)} for name, type_, data in files]
    return page.evaluate_handle(TRANSFER, named)


@dataclass
class Visit:
    """A page, and what must not have happened on it when the test is over.

    statuses: of answers that the test provokes, which Chromium reports on the console.
    """

    page: Page
    origin: str
    statuses: set[int] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._request)
        self.page.on("websocket", self._websocket)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.origin, f"blob:{self.origin}")):
            self.foreign.append(request.url)

    def _websocket(self, socket: WebSocket) -> None:
        if not socket.url.startswith(self.origin.replace("http", "ws")):
            self.foreign.append(socket.url)

    def check(self) -> None:
        expected = [f"status of {status}" for status in self.statuses]
        complaints = [text for text in self.complaints if not any(one in text for one in expected)]
        assert complaints == []
        assert self.foreign == []


Visitor = Callable[..., Visit]


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def browser(playwright: Playwright, face_video: Path) -> Iterator[Browser]:
    camera = f"--use-file-for-fake-video-capture={face_video}"
    browser = playwright.chromium.launch(executable_path=_chromium(), args=[*ARGUMENTS, camera])
    yield browser
    browser.close()


def _chromium() -> str:
    """Where Chromium is; without one the tests are skipped, or fail where REQUIRE=1 is set."""
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        reason = "there is no Chromium on the PATH: install one (Debian: apt install chromium)"
        if os.environ.get("REQUIRE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(scope="session")
def face_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the fake camera shows: the astronaut's face, moving a little to and fro."""
    photo = Image.open(PHOTO).convert("RGB")
    steps = [*range(0, VIDEO_FRAMES, 2), *range(VIDEO_FRAMES, 0, -2)]
    frames = [_y4m_frame(photo.crop((80 + x, 0, 400 + x, 240)).resize(VIDEO_SIZE)) for x in steps]
    path = tmp_path_factory.mktemp("camera") / "face.y4m"
    path.write_bytes(b"YUV4MPEG2 W%d H%d F30:1 Ip A1:1 C420jpeg\n" % VIDEO_SIZE + b"".join(frames))
    return path


def _y4m_frame(picture: Image.Image) -> bytes:
    luma, blue, red = picture.convert("YCbCr").split()
    half = (VIDEO_SIZE[0] // 2, VIDEO_SIZE[1] // 2)
    return b"FRAME\n" + luma.tobytes() + blue.resize(half).tobytes() + red.resize(half).tobytes()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visitor]:
    """Open a server's page in a context of its own: `visit(client, color_scheme="dark")`."""
    visits = []

    def start(client: httpx.Client, **context: object) -> Visit:
        options = {"viewport": {"width": 1200, "height": 860}, "reduced_motion": "reduce", **context}
        page = browser.new_context(**options).new_page()  # type: ignore[arg-type]
        page.set_default_timeout(PATIENCE_MS)
        origin = str(client.base_url).rstrip("/")
        visited = Visit(page, origin)
        visits.append(visited)
        visited.watch()
        page.goto(origin)
        return visited

    yield start
    for visited in visits:
        visited.page.context.close()
    for visited in visits:
        visited.check()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: docs/images for `make screenshots`, else nowhere that lasts."""
    chosen = os.environ.get("PICTURES")
    return Path(chosen) if chosen else tmp_path_factory.mktemp("pictures")
