"""A server that is busy, gone or strange."""

import json
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from service.media.errors import RefusedError, ServerError, SourceError
from service.media.interruption import Interruption
from service.media.parallel import IN_FLIGHT_PER_WORKER, in_order
from service.media.remote import RemoteAnalyzer
from service.vision.pipeline import AnalysisOptions

MODELS = json.dumps(
    {"models": [{"name": "m", "version": "1", "digest": "sha256:0", "default": True, "uncertain_below": 0.5}]}
).encode()


@contextmanager
def answering(*answers: tuple[int, dict[str, str], bytes]) -> Iterator[str]:
    """A server on loopback that gives these answers one after another."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, body = left.pop(0)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer

        def log_request(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def json_type(kind: str = "application/json") -> dict[str, str]:
    return {"Content-Type": kind}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


def test_a_full_server_is_asked_again_when_it_says() -> None:
    waits: list[float] = []
    busy = (503, {"Retry-After": "7"}, b"")
    with answering(busy, (502, {}, b""), (200, json_type(), MODELS)) as url:
        analyzer = RemoteAnalyzer(url + "/", None, AnalysisOptions(), waits.append)
        assert analyzer.model.name == "m"
        analyzer.close()
    assert waits == [7.0, 0.5]


def test_nobody_waits_for_a_server_that_does_not_answer_after_an_interrupt() -> None:
    interruption = Interruption()
    with pytest.raises(KeyboardInterrupt):
        interruption.signalled(signal.SIGINT, None)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(ServerError, match="interrupted"):
            RemoteAnalyzer(url, None, AnalysisOptions(), check=interruption.check)


def test_a_server_that_is_gone_ends_the_run() -> None:
    waits: list[float] = []
    with answering((200, json_type(), MODELS)) as url:
        analyzer = RemoteAnalyzer(url, None, AnalysisOptions(), waits.append)
    with pytest.raises(ServerError, match="cannot be reached"):
        analyzer.photo(b"x")
    assert waits == [0.25, 0.5, 1, 2, 4, 8, 16]
    analyzer.close()


def test_an_address_that_never_answered_is_given_up_sooner() -> None:
    waits: list[float] = []
    with answering() as url:
        pass
    with pytest.raises(ServerError, match="cannot be reached"):
        RemoteAnalyzer(url, None, AnalysisOptions(), waits.append)
    assert waits == [0.25, 0.5]


@pytest.mark.parametrize("url", ["", "localhost:8000", "127.0.0.1:8000", "ftp://127.0.0.1", "http://[::1"])
def test_what_is_no_url_of_a_server_is_asked_for_nothing(url: str) -> None:
    waits: list[float] = []
    with pytest.raises(ServerError, match=f"^'{re.escape(url)}' is no URL of a server: "):
        RemoteAnalyzer(url, None, AnalysisOptions(), waits.append)
    assert waits == []


def test_a_password_in_the_url_is_not_told() -> None:
    waits: list[float] = []
    with answering((200, json_type(), MODELS)) as url:
        named = url.replace("//", "//user:p@ss@")
        analyzer = RemoteAnalyzer(named, None, AnalysisOptions(), waits.append)
    with closing(analyzer), pytest.raises(ServerError, match=f"^{url} cannot be reached"):
        analyzer.photo(b"x")


@pytest.mark.parametrize("start", ["http://user:secret/s@", "user:secret@", "http:/user:secret@"])
def test_a_password_in_what_is_no_url_is_not_told(start: str) -> None:
    waits: list[float] = []
    with pytest.raises(ServerError, match=r"^'127\.0\.0\.1:9' is no URL of a server: ") as told:
        RemoteAnalyzer(f"{start}127.0.0.1:9", None, AnalysisOptions(), waits.append)
    assert "secret" not in str(told.value)


def test_what_is_wrong_with_one_photo_fails_that_photo() -> None:
    problem = json.dumps({"code": "invalid_image", "detail": "The image does not decode"}).encode()
    with answering(
        (200, json_type(), MODELS), (422, json_type("application/problem+json"), problem), (500, {}, b"oops")
    ) as url:
        analyzer = RemoteAnalyzer(url, None, AnalysisOptions())
        with pytest.raises(RefusedError, match="The image does not decode"):
            analyzer.photo(b"x")
        with pytest.raises(RefusedError, match="the server answered 500"):
            analyzer.photo(b"x")
        with pytest.raises(RefusedError, match="the file is empty"):
            analyzer.photo(b"")
        analyzer.close()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html", b"<html>hello</html>"),
        ("application/json", b'{"a": 1}'),
        ("application/json", b"[1]"),
        ("application/json", b'{"models": [{"name": "m"}]}'),
        ("application/json", b"\xff"),
        ("application/json", b"[" * 100_000),
    ],
)
def test_what_is_not_the_service_is_told(kind: str, body: bytes) -> None:
    strange = 200, json_type(kind), body
    with answering(strange, (200, json_type(), MODELS), strange) as url:
        with pytest.raises(ServerError, match=f"what answers at {url} is not this service"):
            RemoteAnalyzer(url, None, AnalysisOptions())
        analyzer = RemoteAnalyzer(url, None, AnalysisOptions())
        with pytest.raises(ServerError, match=f"what answers at {url} is not this service"):
            analyzer.photo(b"x")
        analyzer.close()


@pytest.mark.parametrize(
    ("headers", "told"), [(json_type(), "answered 404"), ({"Content-Encoding": "gzip"}, "cannot be reached")]
)
def test_an_error_that_cannot_be_read_is_told(headers: dict[str, str], told: str) -> None:
    waits: list[float] = []
    with (
        answering(*[(404, headers, b"no JSON and no gzip")] * 3) as url,
        pytest.raises(ServerError, match=told),
    ):
        RemoteAnalyzer(url, None, AnalysisOptions(), waits.append)


def test_an_image_that_is_too_late_is_asked_for_again_and_costs_no_run() -> None:
    model = (200, json_type(), MODELS)
    late = (504, json_type(), b'{"code": "deadline_exceeded", "detail": "too late"}')
    with answering(model, *[late] * 8) as url:
        waits: list[float] = []
        analyzer = RemoteAnalyzer(url, None, AnalysisOptions(), waits.append)
        with closing(analyzer), pytest.raises(RefusedError, match="too late"):
            analyzer.photo(b"x")
    assert len(waits) == 7


def test_an_interrupted_run_waits_for_no_server() -> None:
    interruption = Interruption()
    with pytest.raises(KeyboardInterrupt):
        interruption.signalled(signal.SIGINT, None)
    with pytest.raises(ServerError, match="interrupted"):
        interruption.wait(60)


@pytest.mark.parametrize("key", ["ключ", "two\nlines", "a space "])
def test_a_key_that_cannot_be_sent_is_told_but_not_shown(key: str) -> None:
    with pytest.raises(ServerError, match=r"^the API key is not printable ASCII, or "):
        RemoteAnalyzer("http://127.0.0.1:9", key, AnalysisOptions())


def test_few_items_are_taken_before_they_are_needed() -> None:
    taken = []

    def endless() -> Iterator[int]:
        for number in range(1_000_000):
            taken.append(number)
            yield number

    results = in_order(lambda number: number * number, endless(), workers=3)
    for expected in range(500):
        assert next(results) == expected * expected
        assert len(taken) - expected <= 3 * IN_FLIGHT_PER_WORKER
    results.close()


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_what_was_taken_before_the_source_broke_off_is_not_lost(workers: int) -> None:
    def breaking() -> Iterator[int]:
        yield from range(5)
        raise SourceError("broke off")

    results = in_order(lambda number: number, breaking(), workers)
    assert [next(results) for _ in range(5)] == list(range(5))
    with pytest.raises(SourceError, match="broke off"):
        next(results)
