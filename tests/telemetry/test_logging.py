"""What logs must not hold, whatever their level."""

import base64
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("style", ["console", "json"])
def test_a_stream_leaves_one_line_and_neither_keys_nor_pixels(photo: bytes, style: str) -> None:
    key = base64.urlsafe_b64encode(b"secret").decode()
    environment = {"FER_LOG_LEVEL": "debug", "FER_LOG_FORMAT": style, "FER_API_KEYS": "secret"}
    server = subprocess.Popen(
        [sys.executable, "-m", "service.cli", "serve", "--port", "0"],
        stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment,
    )  # fmt: skip
    try:
        assert server.stderr is not None
        lines = []
        for line in server.stderr:
            lines.append(line)
            if "Uvicorn running on" in line:
                break
        port = int(lines[-1].split("127.0.0.1:")[1].split()[0].strip("\"',"))
        protocols = [Subprotocol("fer.v1"), Subprotocol(f"fer.key.{key}")]
        url = f"ws://127.0.0.1:{port}/stream?api_key=secret"
        with connect(url, subprotocols=protocols, proxy=None) as stream:
            stream.send(photo)
            stream.recv(30)
        with connect(url, proxy=None) as stream:
            stream.send(photo)
    finally:
        server.terminate()
        lines += (server.communicate(timeout=30)[1] or "").splitlines()
    text = "\n".join(lines)
    assert text.count("received=1" if style == "console" else '"received": 1') >= 1
    assert text.count("/stream") == 2
    for leak in ("secret", key, "ff d8", "Sec-WebSocket"):
        assert leak not in text
