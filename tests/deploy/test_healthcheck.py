import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

SCRIPT = Path(__file__).parents[2] / "docker" / "healthcheck.py"


def check(host: str, port: int) -> subprocess.CompletedProcess[str]:
    """Run the script as the image does."""
    environment = os.environ | {"FER_HOST": host, "FER_PORT": str(port)}
    command = [sys.executable, "-I", "-S", str(SCRIPT)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", ""])
def test_a_service_that_answers_is_alive(client: httpx.Client, host: str) -> None:
    assert client.base_url.port
    result = check(host, client.base_url.port)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_port_without_a_service_is_dead() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        result = check("127.0.0.1", taken.getsockname()[1])
    assert result.returncode == 1
    assert "no answer from /livez" in result.stderr


def test_any_other_answer_is_dead() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as pool:
        result = pool.submit(check, "127.0.0.1", server.getsockname()[1])
        connection, _ = server.accept()
        with connection:
            connection.recv(1024)
            connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        assert result.result().returncode == 1
