"""Connections that would keep the server waiting, over raw sockets."""

import select
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from service.api.connections import hung_up
from tests.conftest import Serve

HEAD = b"POST /detect-emotions HTTP/1.1\r\nHost: x\r\n"
LARGE_FILE = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"


@contextmanager
def connected(client: httpx.Client, receive_buffer: int | None = None) -> Iterator[socket.socket]:
    with socket.socket() as connection:
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(30)
        connection.connect((client.base_url.host, client.base_url.port))
        yield connection


def told(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_silent_connection_and_an_unfinished_head_are_closed(serve: Serve) -> None:
    with serve(request_timeout_s=0.2) as client:
        for start in (b"", b"P", HEAD + b"X-Slow: "):
            with connected(client) as connection:
                connection.sendall(start)
                assert told(connection) == b""


def test_an_unfinished_head_after_an_answer_is_closed(serve: Serve) -> None:
    with serve(request_timeout_s=0.2) as client, connected(client) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" + HEAD)
        assert told(connection).startswith(b"HTTP/1.1 200")


def test_the_rest_of_a_refused_body_is_waited_for_no_longer_than_a_request(serve: Serve) -> None:
    with serve(request_timeout_s=0.2, max_body_bytes=10) as client:
        for length, status in ((b"1000000", b"413"), (b"10", b"504")):
            with connected(client) as connection:
                connection.sendall(HEAD + b"Content-Length: " + length + b"\r\n\r\nx")
                assert told(connection).startswith(b"HTTP/1.1 " + status)


def test_answers_that_nobody_reads_are_cut_off(serve: Serve) -> None:
    with serve(request_timeout_s=0.2) as client, connected(client, receive_buffer=4096) as connection:
        hung_up = select.poll()
        hung_up.register(connection, 0)
        connection.sendall(8 * LARGE_FILE)  # the kernel alone would take one or two
        assert hung_up.poll(30_000), "the server still waits for its answer to be read"


def test_an_answer_that_is_read_arrives_whole(serve: Serve) -> None:
    with serve() as client, connected(client, receive_buffer=4096) as connection:
        connection.sendall(LARGE_FILE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        head, _, body = told(connection).partition(b"\r\n\r\n")
        assert f"content-length: {len(body)}\r\n".encode() in head.lower() + b"\r\n"


def test_a_head_without_end_is_refused(client: httpx.Client) -> None:
    with connected(client) as connection:
        connection.sendall(HEAD + b"X-Large: ")
        # Little by little: what is still unread at the close would cost the client the answer.
        while not select.select([connection], [], [], 0)[0]:
            connection.sendall(1000 * b"x")
            assert client.get("/livez").status_code == 200
        assert told(connection).startswith(b"HTTP/1.1 431")


def test_a_large_head_that_ends_is_accepted(client: httpx.Client) -> None:
    headers = {f"x-{number}": "x" * 1000 for number in range(30)}
    assert client.get("/livez", headers=headers).status_code == 200


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_who_has_hung_up_is_known_before_anything_is_read() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            theirs.sendall(b"the last bytes")
            assert not hung_up(ours.fileno())
        assert hung_up(ours.fileno())
        descriptor = ours.fileno()
    assert hung_up(descriptor)
