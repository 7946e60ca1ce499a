"""What logs must not hold, whatever their level."""

import base64
import json
import re
import socket
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("style", ["console", "json"])
def test_a_stream_leaves_one_line_and_neither_keys_nor_pixels(photo: bytes, style: str) -> None:
    key = base64.urlsafe_b64encode(b"secret").decode()
    environment = {"FER_LOG_LEVEL": "debug", "FER_LOG_FORMAT": style, "FER_API_KEYS": "secret"}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "service.cli", "serve", "--port", str(port)],
        stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment,
    )  # fmt: skip
    assert server.stderr is not None
    try:
        text = "".join(takewhile(lambda line: "startup complete" not in line, server.stderr))
        protocols = [Subprotocol("fer.v1"), Subprotocol(f"fer.key.{key}")]
        url = f"ws://127.0.0.1:{port}/stream?api_key=secret"
        with connect(url, subprotocols=protocols, proxy=None) as stream:
            stream.send(photo)
            stream.recv(30)
        with connect(url, proxy=None, open_timeout=30) as refused:
            assert refused.response is not None
    finally:
        server.terminate()
        text += server.communicate(timeout=30)[1]
    told = [line for line in text.splitlines() if "fer.access" in line]
    assert [line.count("/stream") for line in told] == [1, 1]
    for count in ("received", "sent"):
        # Either may be the first to end.
        assert sorted(re.findall(rf"\b{count}\W+(\d)", "\n".join(told))) == ["0", "1"]
    for leak in ("secret", key, "ff d8", "Sec-WebSocket"):
        assert leak not in text


@pytest.mark.parametrize("headers", [
    {"baggage": "\u00e9sesame," * 500},
    {"baggage": "sesame," * 5000},
    {"traceparent": f"00-{1:032x}-{1:016x}-01", "tracestate": "sesame"},
])  # fmt: skip
def test_what_is_wrong_with_a_callers_trace_is_not_quoted(headers: dict[str, str]) -> None:
    program = """
import json, sys
from service.telemetry.logging import configure_logging
from service.telemetry.tracing import tracing_for
configure_logging("debug", "json")
with tracing_for({"OTEL_TRACES_EXPORTER": "console"}).server("GET", "http", json.load(sys.stdin)):
    pass
"""
    told = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(headers), cwd=ROOT, text=True, capture_output=True,
        check=True,
    )  # fmt: skip
    assert told.stderr == ""
