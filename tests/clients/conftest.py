"""The real server, as a client is told of it."""

import httpx
import pytest


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def url(client: httpx.Client) -> str:
    return str(client.base_url)
