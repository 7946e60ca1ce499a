"""Connections that would keep the server waiting, over raw sockets."""

import asyncio
import gc
import re
import select
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import httpx
import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from service.api.connections import Connection, hung_up
from service.api.stream_connection import StreamConnection
from service.lifespan import lifespan
from service.runtime.model_store import ModelStore
from service.server import server_config
from service.settings import Settings
from service.vision.pipeline import EmotionPipeline
from tests.conftest import Gated, Loaded, Serve, running, until

HEAD = b"POST /detect-emotions HTTP/1.1\r\nHost: x\r\n"
HANDSHAKE = (
    b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
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
    """All that comes until the server closes, which is a reset where it has not read everything."""
    answer = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            answer += part
    return answer


def send_alone(client: httpx.Client, connection: socket.socket, piece: bytes) -> None:
    """Send some bytes, and wait until the server has read them: it has when it answers somebody else."""
    connection.sendall(piece)
    for _ in range(2):  # in the first round of its loop it may but accept the connection
        assert client.get("/livez").status_code == 200


def statuses(answers: bytes) -> list[bytes]:
    return re.findall(rb"HTTP/1.1 (\d+)", answers)


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


@pytest.mark.parametrize("start", [b"\r\n", b"G", HEAD])
def test_what_begins_after_an_answer_is_waited_for_no_longer_than_a_request(
    serve: Serve, start: bytes
) -> None:
    with serve(request_timeout_s=0.2) as client, connected(client) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(start)
        assert told(connection) == b""


def test_a_connection_outlives_an_answer_longer_than_a_request_may_take(serve: Serve) -> None:
    """As long as proxies keep theirs."""
    with serve(request_timeout_s=0.1) as client, connected(client) as connection:
        for _ in range(2):
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            assert not select.select([connection], [], [], 0.3)[0], "it was closed"


def test_the_rest_of_a_refused_body_is_waited_for_no_longer_than_a_request(serve: Serve) -> None:
    with serve(request_timeout_s=0.2, max_body_bytes=10) as client:
        for length, status in ((b"1000000", b"413"), (b"10", b"504")):
            with connected(client) as connection:
                connection.sendall(HEAD + b"Content-Length: " + length + b"\r\n\r\nx")
                assert told(connection).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize("rest", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_one_who_closes_hears_why_the_body_was_refused(serve: Serve, rest: bytes) -> None:
    """Also in the midst of sending it, as urllib, ab and nginx do."""
    body = b"x" * 30_000_000
    with serve() as client, connected(client) as connection:
        connection.sendall(HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
        connection.sendall(body + rest)
        answer = told(connection)
        assert statuses(answer) == [b"413"]
        assert answer.endswith(b"}")


@pytest.mark.parametrize("doubtful", [b"Expect: 100-continue", b"Upgrade: h2c\r\nHTTP2-Settings: AA"])
def test_after_a_refusal_nothing_is_read_that_may_not_be_the_rest_of_the_body(
    client: httpx.Client, doubtful: bytes
) -> None:
    with connected(client) as connection:
        connection.sendall(
            HEAD.replace(b" HTTP", b"?max_faces=0 HTTP") + doubtful + b"\r\nContent-Length: 9\r\n\r\n"
        )
        answer = connection.recv(65536)
    assert statuses(answer) == [b"422"]
    assert b"connection: close" in answer


@pytest.mark.parametrize("rest", [b"", b"no chunk\r\n", b"1;" + b"x" * 70_000])
def test_one_who_closes_and_does_not_end_is_not_waited_for(
    serve: Serve, rest: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """However the rest of the body goes on."""
    begin = HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n"
    with serve(request_timeout_s=0.2, max_body_bytes=10) as client, connected(client) as connection:
        connection.sendall(begin)
        assert statuses(connection.recv(100)) == [b"413"]
        with suppress(ConnectionError):
            connection.sendall(rest)
        assert statuses(told(connection)) == []
    assert not [record for record in caplog.records if record.exc_info]


def test_answers_that_nobody_reads_are_cut_off(serve: Serve) -> None:
    with serve(request_timeout_s=0.2) as client, connected(client, receive_buffer=4096) as connection:
        hung_up = select.poll()
        hung_up.register(connection, 0)
        connection.sendall(8 * LARGE_FILE)  # the kernel alone would take one or two
        assert hung_up.poll(30_000), "the server still waits for its answer to be read"


def test_nothing_is_kept_of_requests_whose_client_left(gated: Gated, photo: bytes) -> None:
    """Also of one that has not begun: a circle of references would keep its body until it is collected."""
    post = HEAD + b"Content-Length: %d\r\n\r\n" % len(photo) + photo
    gc.collect()
    gc.disable()
    try:
        with gated() as (client, gate):
            with connected(client) as connection:
                connection.sendall(post + post)
                assert gate.entered.wait(30)
            until(lambda: 'code="499"' in client.get("/metrics").text)
            gate.open.set()
            until(lambda: "fer_inflight_requests 0.0" in client.get("/metrics").text)
            held = [one for one in gc.get_objects() if isinstance(one, Connection)]
            assert not [one for one in held if one.transport.is_closing()]
    finally:
        gc.enable()


def test_nothing_is_kept_of_what_a_connection_was_asked_before(client: httpx.Client) -> None:
    for _ in range(9):
        assert client.get("/livez").status_code == 200
    gc.collect()
    held = [one for one in gc.get_objects() if isinstance(one, RequestResponseCycle)]
    assert len(held) < 9


def test_nothing_is_kept_of_a_connection_that_is_reset(client: httpx.Client) -> None:
    """As probes and load balancers do."""
    with connected(client) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(1) == b"H"  # closed with the rest unread
    for _ in range(2):
        assert client.get("/livez").status_code == 200
    gc.collect()
    held = [one for one in gc.get_objects() if isinstance(one, Connection)]
    assert not [one for one in held if one.transport.is_closing()]


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


@pytest.mark.parametrize("blanks", [b" ", b"\t", b" \t "])
def test_blanks_around_a_header_are_no_part_of_it(serve: Serve, blanks: bytes) -> None:
    fields = ((b"X-API-Key", b"secret"), (b"X-Request-Timeout-Ms", b"60000"), (b"X-Request-ID", b"abc"))
    head = HEAD + b"".join(name + b":" + blanks + value + blanks + b"\r\n" for name, value in fields)
    with serve(api_keys="secret") as client, connected(client) as connection:
        connection.sendall(head + b"Connection: close\r\nContent-Length: 4\r\n\r\njunk")
        answer = told(connection)
    assert statuses(answer) == [b"415"]
    assert b"\r\nx-request-id: abc\r\n" in answer


def test_a_large_head_that_ends_is_accepted(client: httpx.Client) -> None:
    headers = {f"x-{number}": "x" * 1000 for number in range(30)}
    assert client.get("/livez", headers=headers).status_code == 200


def test_one_who_asks_without_end_is_answered_to_an_end(client: httpx.Client) -> None:
    with connected(client) as connection:
        connection.sendall(1000 * b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        answers = told(connection)
    assert set(statuses(answers)) == {b"200"}
    assert 100 < len(statuses(answers)) < 1000
    assert b"connection: close" in answers[answers.rindex(b"HTTP/1.1") :].lower()


@pytest.mark.parametrize(("version", "status"), [(b"1.1", b"400"), (b"1.0", b"200")])
def test_since_http_1_1_a_request_names_its_host(client: httpx.Client, version: bytes, status: bytes) -> None:
    with connected(client) as connection:
        connection.sendall(b"GET /livez HTTP/" + version + b"\r\nConnection: close\r\n\r\n")
        assert statuses(told(connection)) == [status]


def test_a_head_in_pieces_is_no_large_one(loaded: tuple[ModelStore, EmotionPipeline]) -> None:
    body = bytes(90_000)
    first = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    second = HEAD + b"Content-Length: 4\r\nConnection: close\r\n\r\njunk"

    async def scenario() -> bytes:
        config = server_config(Settings(_env_file=None), loaded)
        config.load()
        ours, theirs = socket.socketpair()
        theirs.settimeout(30)
        make = partial(Connection, config, ServerState(), {})
        async with lifespan(config.app):  # type: ignore[arg-type]
            _, connection = await asyncio.get_running_loop().connect_accepted_socket(make, ours)
            for piece in (first[:20], first[20:] + second[:15], second[15:]):
                connection.data_received(piece)
            with theirs:
                return await asyncio.to_thread(told, theirs)

    assert statuses(asyncio.run(scenario())) == [b"415", b"415"]


def test_a_connection_is_read_while_its_request_is_in_work(
    loaded: tuple[ModelStore, EmotionPipeline],
) -> None:
    """Else nobody sees that the client leaves. It stops where more comes at once than is taken at once."""

    async def scenario() -> tuple[bool, bytes]:
        config = server_config(Settings(_env_file=None), loaded)
        config.load()
        ours, theirs = socket.socketpair()
        theirs.settimeout(30)
        make = partial(Connection, config, ServerState(), {})
        async with lifespan(config.app):  # type: ignore[arg-type]
            _, connection = await asyncio.get_running_loop().connect_accepted_socket(make, ours)
            connection.data_received(HEAD + b"Connection: close\r\nContent-Length: 1000000\r\n\r\n")
            await asyncio.sleep(0)  # the app asks for the body
            connection.data_received(bytes(1_000_000))
            await asyncio.sleep(0)  # and has it
            reading = connection.transport.is_reading()
            with theirs:
                return reading, await asyncio.to_thread(told, theirs)

    reading, answer = asyncio.run(scenario())
    assert reading
    assert statuses(answer) == [b"415"]


def test_what_follows_a_body_in_chunks_is_no_header_and_not_endless(client: httpx.Client) -> None:
    chunked = HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n4\r\njunk\r\n0\r\n"
    with connected(client) as connection:
        connection.sendall(chunked + b"X-Request-ID: of-a-trailer\r\n\r\n")
        answer = told(connection)
        assert statuses(answer) == [b"415"]
        assert b"of-a-trailer" not in answer
    with connected(client) as connection, suppress(ConnectionError):
        connection.sendall(chunked)
        for _ in range(1000):
            connection.sendall(1000 * b"a: b\r\n")
        raise AssertionError("it was endless")


@pytest.mark.parametrize(
    "doubtful",
    [
        b"Transfer-Encoding: chunked\r\nContent-Length: 4",
        b"Content-Length: 4\r\nContent-Length: 5",
        b"Content-Length: 4, 4",
        b"Content-Length: +4",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding:\r\n chunked",
        b"X: y\nContent-Length: 4",
        b"X: y\rContent-Length: 4",
        b"Content-Length: 4\r\nHost: y",
    ],
)
def test_a_head_that_a_proxy_may_read_otherwise_is_refused(client: httpx.Client, doubtful: bytes) -> None:
    with connected(client) as connection:
        connection.sendall(HEAD + b"Connection: close\r\n" + doubtful + b"\r\n\r\n4\r\njunk\r\n0\r\n\r\n")
        assert statuses(told(connection)) == [b"400"]


@pytest.mark.parametrize(("cut", "ends", "status"), [(0, b", close", b"415"), (30, b"", b"400")])
def test_an_offer_of_another_protocol_costs_no_body(
    client: httpx.Client, cut: int, ends: bytes, status: bytes
) -> None:
    """A head that comes whole is answered as one without the offer, another one refused and the last."""
    hidden = b"GET /models HTTP/1.1\r\nHost: x\r\n\r\n"
    offer = b"Connection: Upgrade, HTTP2-Settings" + ends + b"\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n"
    head = HEAD + offer + b"Content-Length: %d\r\n\r\n" % len(hidden)
    with connected(client) as connection:
        for piece in (head[:cut], head[cut:], hidden):
            send_alone(client, connection, piece)
        assert statuses(told(connection)) == [status]


@pytest.mark.parametrize("spoiled", [b"Content-Length: 1\r\n\r\n", b"X: " + 9000 * b"c" + b"\r\n\r\n"])
def test_a_websocket_handshake_that_does_not_parse_is_answered(client: httpx.Client, spoiled: bytes) -> None:
    with connected(client) as connection:
        connection.sendall(HANDSHAKE + spoiled)
        assert statuses(told(connection)) == [b"400"]


@pytest.mark.parametrize("next_", [b"no HTTP\r\n\r\n", HANDSHAKE + b"\r\n", HEAD + b"X: " + 300_000 * b"y"])
def test_what_is_due_is_answered_before_the_connection_ends(
    client: httpx.Client, photo: bytes, next_: bytes
) -> None:
    with connected(client) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(photo) + photo + next_)
        assert statuses(told(connection)) == [b"200"]


def test_a_stream_whose_client_does_not_read_is_cut_off(serve: Serve) -> None:
    ping = b"\x89\xfd" + bytes(4) + bytes(125)
    with serve(request_timeout_s=0.2) as client, connected(client, receive_buffer=4096) as connection:
        hung_up = select.poll()
        hung_up.register(connection, 0)
        connection.sendall(HANDSHAKE + b"\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 101")
        with suppress(ConnectionError):
            connection.sendall(80_000 * ping)  # the kernel alone would take half of the answers
        assert hung_up.poll(30_000), "the server still waits for its answers to be read"


@contextmanager
def streaming(client: httpx.Client, query: bytes = b"") -> Iterator[socket.socket]:
    with connected(client) as connection:
        connection.sendall(HANDSHAKE.replace(b"/stream", b"/stream" + query) + b"\r\n")
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += connection.recv(1)
        assert answer.startswith(b"HTTP/1.1 101")
        yield connection


def close_code(connection: socket.socket) -> int:
    """Of the close frame that comes next."""
    kind, size = connection.recv(2)
    assert kind == 0x88
    return int.from_bytes(connection.recv(size)[:2])


def test_one_who_answers_no_ping_finds_the_reason_and_so_does_the_log(
    loaded: Loaded, capfd: pytest.CaptureFixture[str]
) -> None:
    config = server_config(Settings(_env_file=None, port=0), loaded)
    config.ws_ping_interval = config.ws_ping_timeout = 0.05
    with running(config) as client, streaming(client) as connection:
        assert connection.recv(6).startswith(b"\x89\x04")
        assert close_code(connection) == 1011
        for _ in range(3):
            send_alone(client, connection, EMPTY)
    assert re.search(r"code.{1,20}1011", "".join(capfd.readouterr()))


PING = b"\x89\x80" + bytes(4)
EMPTY = b"\x82\x80" + bytes(4)
NO_UTF8 = b"\x81\x81" + bytes(4) + b"\xff"
LARGE = b"\x82\xff" + (20_000_000).to_bytes(8) + bytes(4)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (b"\x82\xff" + (1 << 40).to_bytes(8) + bytes(4), 1009),
        (NO_UTF8, 1007),
        (1000 * PING, 1008),
        (b"\x02\x80" + bytes(4) + 1000 * (b"\x00\x80" + bytes(4)), 1008),
    ],
    ids=["too large", "no UTF-8", "too many pings", "too small pieces"],
)
def test_a_stream_that_breaks_off_is_read_to_its_end(client: httpx.Client, frames: bytes, code: int) -> None:
    with streaming(client) as connection:
        connection.sendall(frames)
        # The answers to pings that came before.
        while (kind := connection.recv(1, socket.MSG_PEEK)) == b"\x8a":
            assert connection.recv(2) == kind + b"\x00"
        assert close_code(connection) == code
        connection.sendall(bytes(2_000_000))
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(4096) == b"", "not reset"


@pytest.mark.parametrize("late", [LARGE + bytes(1_000_000), NO_UTF8 + 20_000 * EMPTY], ids=["large", "small"])
def test_little_is_kept_of_what_comes_after_the_goodbye(
    client: httpx.Client, late: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with streaming(client, b"?max_faces=0") as connection:
        assert close_code(connection) == 1008
        connection.sendall(late)
        connection.settimeout(5)  # for a goodbye that it will not see, the server would wait for ten
        assert connection.recv(4096) == b""
        connections = [one for one in gc.get_objects() if isinstance(one, StreamConnection)]
        assert connections
        assert sum(len(one.conn.reader.buffer) for one in connections) < 100_000
    assert not [record for record in caplog.records if record.exc_info]


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
