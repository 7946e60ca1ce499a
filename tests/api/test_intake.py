"""Memory for bodies: who makes room, and what a client sees of it."""

import gc
import socket
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from service.api.intake import Intake, Upload
from service.api.uploads import Body
from tests.conftest import Gated, Serve


def uploads(intake: Intake, opened: ExitStack, *sizes: int) -> list[Upload]:
    found = [opened.enter_context(intake.upload()) for _ in sizes]
    for upload, size in zip(found, sizes, strict=True):
        upload.grow(size)
    return found


def test_the_largest_that_is_still_read_makes_room() -> None:
    intake = Intake(100)
    evicted: list[int] = []
    with ExitStack() as opened:
        small, *others = uploads(intake, opened, 10, 50, 30)
        for upload in (small, *others):
            upload.evict = partial(evicted.append, upload.size)
        small.grow(11)
        assert evicted == [50]
        assert intake.held == 51
    assert intake.held == 0


def test_what_is_read_whole_stays() -> None:
    intake = Intake(100)
    evicted: list[int] = []
    with ExitStack() as opened:
        whole, growing = uploads(intake, opened, 80, 20)
        intake.complete(whole)
        for upload in (whole, growing):
            upload.evict = partial(evicted.append, upload.size)
        growing.grow(1)
        assert evicted == [20]
        assert intake.held == 80
    assert intake.held == 0


def test_what_broke_off_is_forgotten() -> None:
    intake = Intake(100)
    evicted: list[int] = []
    with ExitStack() as opened:
        (gone,) = uploads(intake, opened, 90)
        gone.evict = partial(evicted.append, gone.size)
    with ExitStack() as opened:
        large, small = uploads(intake, opened, 60, 30)
        large.evict = partial(evicted.append, large.size)
        small.grow(20)
        assert evicted == [60]
        assert intake.held == 50


def test_many_large_bodies_held_open_do_not_keep_an_image_out(serve: Serve, photo: bytes) -> None:
    size = 100_000
    with serve(max_body_bytes=size) as client, ExitStack() as opened:
        head = b"POST /detect-emotions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
        address = (client.base_url.host, client.base_url.port)
        hogs = [opened.enter_context(socket.create_connection(address, timeout=30)) for _ in range(20)]
        for hog in hogs:
            hog.sendall(head + bytes(size - 1))
            assert client.get("/livez").status_code == 200  # by then it has been read
        assert client.post("/detect-emotions", content=photo).status_code == 200
        refused = 0
        for hog in hogs:
            hog.setblocking(False)
            try:
                answer = hog.recv(65536)
            except BlockingIOError:
                continue
            assert answer.startswith(b"HTTP/1.1 503")
            assert b"retry-after: " in answer
            refused += 1
        assert 0 < refused < 20


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(("path", "name"), [("/detect-emotions/batch", "images"), ("/analyze", "img")])
def test_a_body_is_not_held_beside_its_images(
    gated: Gated, photo: bytes, path: str, name: str, as_json: bool
) -> None:
    """Their room is reckoned once, and many requests may be between their body and their images."""
    coded = f"data:image/jpeg;base64,{b64encode(photo).decode()}"
    json = {name: [coded] if name == "images" else coded}
    sent: dict[str, Any] = {"json": json} if as_json else {"files": {name: photo}}
    gc.collect()  # of other tests
    with gated(workers=1) as (client, gate), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, path, **sent)
        assert gate.entered.wait(30)
        held = [one for one in gc.get_objects() if isinstance(one, Body)]
        gate.open.set()
        assert answer.result(30).status_code in (200, 400)
    assert not held
