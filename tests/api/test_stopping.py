"""How the server ends: what of its work it tells to have cut short."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Thread
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from service.server import server_config
from service.settings import Settings
from service.vision.mtcnn import Mtcnn
from service.vision.pipeline import EmotionPipeline
from tests.api.test_stream import ending
from tests.conftest import Gate, Loaded, ReadyServer


def stopped(loaded: Loaded, meanwhile: Callable[[httpx.Client], object], **settings: Any) -> ReadyServer:
    """A server that was told to stop after `meanwhile`, and has."""
    config = server_config(Settings(_env_file=None, port=0, **settings), loaded)
    server = ReadyServer(config)
    thread = Thread(target=server.run)
    thread.start()
    try:
        assert server.ready.wait(30)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
            meanwhile(client)
            server.should_exit = True
            thread.join()
    finally:
        server.should_exit = True
        thread.join()
    return server


@pytest.mark.parametrize("grace", [0, 0.05, 10])
def test_nothing_is_cut_short_where_all_is_answered(loaded: Loaded, photo: bytes, grace: float) -> None:
    """Not even with a connection that is kept."""

    def ask(client: httpx.Client) -> None:
        assert client.post("/detect-emotions", content=photo).status_code == 200

    assert not stopped(loaded, ask, shutdown_grace_s=grace).cut_short
    assert not stopped(loaded, lambda _: None, shutdown_grace_s=grace).cut_short


def test_what_is_still_worked_on_after_the_grace_is_cut_short(loaded: Loaded, photo: bytes) -> None:
    gate = Gate()
    store, pipeline = loaded
    held = EmotionPipeline(Mtcnn(gate, gate, gate, gate), pipeline.classifiers, pipeline.default)
    with ThreadPoolExecutor() as pool:
        answers = []

        def ask(client: httpx.Client) -> None:
            # Not by this client, which is closed while the answer may still be on its way.
            url = client.base_url.join("/detect-emotions")
            answers.append(pool.submit(httpx.post, url, content=photo, timeout=30, trust_env=False))
            assert gate.entered.wait(30)

        try:
            assert stopped((store, held), ask, shutdown_grace_s=0).cut_short
            assert answers[0].result().status_code == 503
        finally:
            gate.open.set()


def test_a_frame_that_is_still_worked_on_after_the_grace_is_cut_short(loaded: Loaded, photo: bytes) -> None:
    gate = Gate()
    store, pipeline = loaded
    held = EmotionPipeline(Mtcnn(gate, gate, gate, gate), pipeline.classifiers, pipeline.default)
    with ExitStack() as streams:
        opened = []

        def talk(client: httpx.Client) -> None:
            url = f"ws://{client.base_url.netloc.decode()}/stream"
            opened.append(streams.enter_context(connect(url, proxy=None, compression=None)))
            opened[0].send(photo)
            assert gate.entered.wait(30)

        try:
            assert stopped((store, held), talk, shutdown_grace_s=0).cut_short
            assert ending(opened[0]) == (1001, "not_ready: the service is shutting down")
        finally:
            gate.open.set()


@pytest.mark.parametrize("grace", [0, 10])
def test_a_stream_that_was_told_goodbye_is_not_cut_short(loaded: Loaded, grace: float) -> None:
    with ExitStack() as streams:
        opened = []

        def talk(client: httpx.Client) -> None:
            url = f"ws://{client.base_url.netloc.decode()}/stream"
            opened.append(streams.enter_context(connect(url, proxy=None, compression=None)))

        assert not stopped(loaded, talk, shutdown_grace_s=grace).cut_short
        assert ending(opened[0])[0] == 1001
