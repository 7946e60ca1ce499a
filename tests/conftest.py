"""The photo, the pipeline and a real server on loopback, shared by all tests."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest
import uvicorn

from service.lifespan import load
from service.runtime.model_store import ModelStore
from service.server import Server, server_config
from service.settings import Settings
from service.telemetry.tracing import NO_TRACING, Tracing
from service.vision.pipeline import EmotionPipeline

PHOTO = Path(__file__).parent / "data" / "astronaut.jpg"
Serve = Callable[..., AbstractContextManager[httpx.Client]]


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


@contextmanager
def serving(
    settings: Settings, loaded: tuple[ModelStore, EmotionPipeline], tracing: Tracing = NO_TRACING
) -> Iterator[httpx.Client]:
    """A client of the real app, on a free loopback port, stopped at the end."""
    server = ReadyServer(server_config(settings.model_copy(update={"port": 0}), loaded, tracing))
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


@pytest.fixture(scope="session")
def photo() -> bytes:
    return PHOTO.read_bytes()


@pytest.fixture(scope="session")
def loaded() -> tuple[ModelStore, EmotionPipeline]:
    return load(Settings(_env_file=None))


@pytest.fixture(scope="session")
def pipeline(loaded: tuple[ModelStore, EmotionPipeline]) -> EmotionPipeline:
    return loaded[1]


@pytest.fixture(scope="session")
def client(loaded: tuple[ModelStore, EmotionPipeline]) -> Iterator[httpx.Client]:
    with serving(Settings(_env_file=None), loaded) as client:
        yield client


@pytest.fixture
def serve(loaded: tuple[ModelStore, EmotionPipeline]) -> Serve:
    """Start another server with settings of its own: `with serve(queue_size=0) as client`."""

    def start(**settings: object) -> AbstractContextManager[httpx.Client]:
        return serving(Settings(_env_file=None, **settings), loaded)  # type: ignore[arg-type]

    return start
