"""The server that benchmarks start, and what their clients say where there is nothing to tell."""

import sys

import httpx
import pytest

from benchmarks.server import serving


@pytest.mark.skipif(sys.platform != "linux", reason="memory and CPU time come from /proc")
def test_settings_of_the_caller_are_not_the_measured_ones(
    monkeypatch: pytest.MonkeyPatch, photo: bytes
) -> None:
    monkeypatch.setenv("FER_API_KEYS", "k")
    with serving(log_level="warning") as server, httpx.Client(base_url=server.url) as client:
        before = server.cpu_seconds()
        assert client.post("/detect-emotions", content=photo).status_code == 200
        assert server.cpu_seconds() > before > 0
        assert server.resident_bytes() > 50_000_000
        assert server.counter("process_open_fds") > 0
        assert server.counter("no_such_metric") == 0
        assert server.ready_s > 0


def test_a_server_that_does_not_start_is_told() -> None:
    with pytest.raises(SystemExit, match="ended with 1 before it was ready"), serving(workers="many"):
        pass
