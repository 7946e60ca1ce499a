"""The photo, the pipeline and a real server on loopback, shared by all tests."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from numpy.typing import NDArray

from service.lifespan import load
from service.runtime.model_store import ModelStore
from service.server import Server, server_config
from service.settings import Settings
from service.telemetry.tracing import NO_TRACING, Tracing
from service.vision.mtcnn import Mtcnn
from service.vision.pipeline import EmotionPipeline

PHOTO = Path(__file__).parent / "data" / "astronaut.jpg"
Serve = Callable[..., AbstractContextManager[httpx.Client]]
Loaded = tuple[ModelStore, EmotionPipeline]


class ReadyServer(Server):
    """The server, which tells when it is ready, so that nobody has to poll."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = Event()

    async def startup(self, sockets: object = None) -> None:
        try:
            await super().startup(sockets)  # type: ignore[arg-type]
        finally:
            self.ready.set()


class Gate:
    """A graph that waits for a key before each run, and finds nothing."""

    def __init__(self) -> None:
        self.entered, self.open = Event(), Event()

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        self.entered.set()
        assert self.open.wait(30)
        _, height, width, _ = inputs["image"].shape
        cells = ((height - 10) // 2, (width - 10) // 2)
        shapes = {(1, *cells): np.float32, (1, *cells, 4): np.float32, (1, *cells, 5): np.uint8}
        return [np.zeros(shape, dtype) for shape, dtype in shapes.items()]


Gated = Callable[..., AbstractContextManager[tuple[httpx.Client, Gate]]]


def serving(
    settings: Settings, loaded: Loaded, tracing: Tracing = NO_TRACING
) -> AbstractContextManager[httpx.Client]:
    """A client of the real app, on a free loopback port, stopped at the end."""
    return running(server_config(settings.model_copy(update={"port": 0}), loaded, tracing))


@contextmanager
def running(config: uvicorn.Config) -> Iterator[httpx.Client]:
    """The same of a server that was configured otherwise."""
    server = ReadyServer(config)
    thread = Thread(target=server.run)
    thread.start()
    try:
        assert server.ready.wait(30)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


def until(holds: Callable[[], bool]) -> None:
    """Ask again and again, since the server tells nobody when; each ask is a request of its own."""
    deadline = monotonic() + 30
    while not holds():
        assert monotonic() < deadline, "it did not come true within 30 s"


@pytest.fixture(scope="session")
def photo() -> bytes:
    return PHOTO.read_bytes()


@pytest.fixture(scope="session")
def loaded() -> Loaded:
    return load(Settings(_env_file=None))


@pytest.fixture(scope="session")
def pipeline(loaded: Loaded) -> EmotionPipeline:
    return loaded[1]


@pytest.fixture(scope="session")
def client(loaded: Loaded) -> Iterator[httpx.Client]:
    with serving(Settings(_env_file=None), loaded) as client:
        yield client


@pytest.fixture
def serve(loaded: Loaded) -> Serve:
    """Start another server with settings of its own: `with serve(queue_size=0) as client`."""

    def start(**settings: object) -> AbstractContextManager[httpx.Client]:
        return serving(Settings(_env_file=None, **settings), loaded)  # type: ignore[arg-type]

    return start


@pytest.fixture
def gated(loaded: Loaded) -> Gated:
    """Start a server whose detector is held until the gate opens."""

    @contextmanager
    def start(**settings: Any) -> Iterator[tuple[httpx.Client, Gate]]:
        gate = Gate()
        store, pipeline = loaded
        held = EmotionPipeline(Mtcnn(gate, gate, gate, gate), pipeline.classifiers, pipeline.default)
        with serving(Settings(_env_file=None, **settings), (store, held)) as client:
            try:
                yield client, gate
            finally:
                gate.open.set()

    return start
