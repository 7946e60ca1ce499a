"""Exit 0 when GET /livez answers 200, else 1. Only the standard library: it runs every few seconds."""

import os
import socket
import sys

TIMEOUT_S = 2
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104


def alive(host: str, port: int) -> bool:
    """Whether the service answers /livez. Raises OSError when nothing listens or it takes too long."""
    with socket.create_connection((WILDCARDS.get(host, host), port), TIMEOUT_S) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        with connection.makefile("rb") as answer:
            return answer.readline().split()[1:2] == [b"200"]


if __name__ == "__main__":
    try:
        sys.exit(not alive(os.environ.get("FER_HOST", ""), int(os.environ.get("FER_PORT", "8000"))))
    except OSError as error:
        sys.exit(f"no answer from /livez: {error}")
