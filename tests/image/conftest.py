"""The image, built once, and hardened containers of it; nothing here is collected by `make test`."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.image import containers
from tests.image.containers import ROOT, Container

Start = Callable[..., Container]


@pytest.fixture(scope="session")
def image() -> str:
    name = os.environ.get("IMAGE", "localhost/fer-service:dev")
    environment = os.environ | {"BUILDER": containers.engine(), "IMAGE": name}
    subprocess.run([ROOT / "docker" / "build.sh"], env=environment, check=True)
    return name


@pytest.fixture(scope="session")
def start(image: str) -> Iterator[Start]:
    """Start containers that are removed at the end: `start("--env", "FER_LOG_LEVEL=debug")`."""
    started: list[Container] = []

    def begin(*options: str) -> Container:
        port = free_port()
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300, trust_env=False)
        started.append(Container(containers.start(image, port, *options), client))
        return started[-1]

    yield begin
    for container in started:
        container.client.close()
        containers.call("rm", "--force", container.name)


@pytest.fixture(scope="session")
def container(start: Start) -> Container:
    """One that is ready and that no test ends."""
    container = start()
    container.wait_for("/readyz")
    return container


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
