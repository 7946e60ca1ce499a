"""Real decoder processes: the same pixels, and nothing that happens to one costs more than its picture."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from time import monotonic

import httpx
import pytest
from PIL import Image

from service.runtime.deadline import Deadline, ExpiredError, bounded_by
from service.runtime.decoder_pool import DecoderError, DecoderPool
from service.vision.errors import InvalidImageError
from service.vision.headers import read_header
from service.vision.image import decode_picture
from service.vision.types import Header

DATA = Path(__file__).parents[1] / "data"
PORTRAIT = Image.open(DATA / "astronaut.jpg").convert("RGB").resize((96, 64))


def encoded(name: str, image: Image.Image = PORTRAIT) -> bytes:
    buffer = BytesIO()
    image.save(buffer, name)
    return buffer.getvalue()


GIF = read_header(encoded("GIF"))
# More than a socket holds.
LARGE = read_header(encoded("TIFF", PORTRAIT.resize((1000, 1000))))


def decoder_processes() -> set[int]:
    """Process ids of this process's children that decode."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"decoder_process" in (status.parent / "cmdline").read_bytes():
                found.add(int(status.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.fixture(scope="module")
def started() -> Iterator[DecoderPool]:
    pool = DecoderPool()
    pool.start()
    pool.warm_up()
    yield pool
    pool.close()


@pytest.fixture
def pool(started: DecoderPool) -> DecoderPool:
    """With one process that is up: the one before may have been killed by the last test."""
    started.warm_up()
    return started


def process_of(pool: DecoderPool) -> int:
    (process,) = pool.processes
    return process


class Moment(Deadline):
    """A deadline that never comes, but kills a process when it is asked about: while that is in use."""

    def __init__(self, process: int) -> None:
        super().__init__(monotonic() + 60)
        self._process = process

    @property
    def seconds_left(self) -> float:
        os.kill(self._process, signal.SIGKILL)
        return super().seconds_left


class Closing(Deadline):
    """A deadline that never comes, but closes a pool when it is asked about: while that is in use."""

    def __init__(self, pool: DecoderPool) -> None:
        super().__init__(monotonic() + 60)
        self._pool = pool

    @property
    def seconds_left(self) -> float:
        self._pool.close()
        return super().seconds_left


@pytest.mark.parametrize("name", ["GIF", "WEBP", "BMP", "TIFF", "AVIF", "heif", "cmyk"])
def test_pixels_are_those_of_the_same_process(pool: DecoderPool, name: str) -> None:
    data = (DATA / "astronaut-rotated.heic").read_bytes() if name == "heif" else b""
    data = encoded("TIFF", PORTRAIT.convert("CMYK")) if name == "cmyk" else data
    header = read_header(data or encoded(name))
    ours, theirs = decode_picture(header, 20), pool.decode(header, 20)

    assert (theirs.pixels == ours.pixels).all()
    assert (theirs.width, theirs.height, theirs.format) == (ours.width, ours.height, ours.format)
    assert theirs.exif_orientation == ours.exif_orientation


def test_a_photo_needs_no_process_unless_it_has_many_scans() -> None:
    photo = read_header((DATA / "astronaut.jpg").read_bytes())
    pool = DecoderPool()

    assert pool.decode(photo, 20).width == 512
    assert not pool.processes
    assert pool.decode(replace(photo, passes=100), 20).width == 512
    assert pool.processes
    pool.close()


def test_a_refusal_is_passed_on_and_costs_no_process(pool: DecoderPool) -> None:
    process = process_of(pool)

    with pytest.raises(InvalidImageError, match="contradicts itself"):
        pool.decode(replace(LARGE, size=(9, 9)), 20)
    assert process_of(pool) == process


def test_a_process_that_dies_at_work_costs_its_picture(pool: DecoderPool) -> None:
    with bounded_by(Moment(process_of(pool))), pytest.raises(InvalidImageError, match="GIF image does not"):
        pool.decode(GIF, 20)
    assert pool.decode(GIF, 20).width == 96


def test_a_process_that_dies_idle_costs_nothing(pool: DecoderPool) -> None:
    process = process_of(pool)
    os.kill(process, signal.SIGKILL)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)

    assert pool.decode(GIF, 20).width == 96
    assert process_of(pool) != process


@pytest.mark.parametrize("header", [GIF, LARGE], ids=["before it answers", "before it has read"])
def test_a_process_that_hangs_is_ended_at_the_deadline(pool: DecoderPool, header: Header) -> None:
    process = process_of(pool)
    os.kill(process, signal.SIGSTOP)

    with bounded_by(Deadline(monotonic() + 0.1)), pytest.raises(ExpiredError):
        pool.decode(header, 20)
    assert pool.decode(GIF, 20).width == 96
    assert process_of(pool) != process


def test_a_process_that_still_starts_is_waited_for() -> None:
    """However long that takes: its first picture is not to blame."""
    pool = DecoderPool(patience=0.001)
    pool.start()
    assert pool.decode(LARGE, 20).width == 1000
    pool.close()


def test_a_picture_gets_the_memory_of_its_claimed_size(pool: DecoderPool) -> None:
    """64 megapixels in a kilobyte, handed over as one pixel."""
    bomb = (DATA / "64-megapixels.avif").read_bytes()
    assert read_header(bomb).size == (8000, 8000)

    with pytest.raises(InvalidImageError):
        pool.decode(Header("avif", (1, 1), bomb), 20)
    assert pool.decode(GIF, 20).width == 96


def test_the_limits_of_a_small_picture_are_not_those_of_the_next_one(pool: DecoderPool) -> None:
    process = process_of(pool)
    body = encoded("BMP") + bytes(140_000_000)  # more than a picture of one pixel may take

    assert pool.decode(GIF, 20).width == 96
    assert pool.decode(read_header(body), 20).width == 96
    assert process_of(pool) == process


def test_the_signals_of_a_terminal_or_supervisor_are_not_for_it(pool: DecoderPool) -> None:
    process = process_of(pool)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(process, number)

    assert pool.decode(GIF, 20).width == 96
    assert process_of(pool) == process


def test_processes_know_no_setting_and_end_with_their_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_API_KEYS", "secret")
    pool = DecoderPool()
    pool.start()
    pool.warm_up()
    process = process_of(pool)

    assert b"FER_" not in Path(f"/proc/{process}/environ").read_bytes()
    pool.close()
    assert not Path(f"/proc/{process}").exists()


def test_a_pool_that_closes_at_work_blames_no_picture_and_leaves_no_process() -> None:
    deaths: list[str] = []
    pool = DecoderPool(lambda name, _: deaths.append(name))
    pool.start()

    with bounded_by(Closing(pool)), pytest.raises(DecoderError):
        pool.decode(GIF, 20)
    assert not deaths
    assert not pool.processes
    with pytest.raises(DecoderError):
        pool.decode(GIF, 20)
    assert not pool.processes


def test_the_service_answers_on_when_all_its_decoders_are_killed(client: httpx.Client) -> None:
    data = encoded("GIF")
    assert client.post("/detect-emotions", content=data).status_code == 200
    processes = decoder_processes()
    assert processes
    for process in processes:
        os.kill(process, signal.SIGKILL)

    answers = [client.post("/detect-emotions", content=data) for _ in range(2)]

    assert answers[0].status_code in {200, 422}
    assert answers[1].status_code == 200
