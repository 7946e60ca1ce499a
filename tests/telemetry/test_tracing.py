"""Spans: whose child each is, on whatever thread it was made, and what none of them may hold."""

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, format_span_id, format_trace_id
from websockets.sync.client import connect

from service.media.remote import RemoteAnalyzer
from service.runtime.model_store import ModelStore
from service.settings import Settings
from service.telemetry.otel import OpenTelemetry
from service.telemetry.tracing import NO_TRACING, TracingError, asked_for, tracing_for
from service.vision.pipeline import AnalysisOptions, EmotionPipeline
from tests.conftest import serving

ROOT = Path(__file__).parents[2]
STAGES = ["queue", "decode", "detect", "crop", "classify"]
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
CREDENTIALS = "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL"
Spans = list[ReadableSpan]
Trace = Callable[..., AbstractContextManager[tuple[httpx.Client, Spans]]]


class Recorder:
    """Keeps the spans of one provider."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = OpenTelemetry(provider)

    def spans(self) -> Spans:
        return sorted(self._exporter.get_finished_spans(), key=start)


@pytest.fixture
def traced(loaded: tuple[ModelStore, EmotionPipeline]) -> Trace:
    """Start a server; the list is filled with its spans, by their beginning, when it has stopped."""

    @contextmanager
    def serve(**settings: Any) -> Iterator[tuple[httpx.Client, Spans]]:
        recorder, spans = Recorder(), Spans()
        with serving(Settings(_env_file=None, **settings), loaded, recorder.tracing) as client:
            yield client, spans
        spans += recorder.spans()

    return serve


def start(span: ReadableSpan) -> int:
    assert span.start_time is not None
    return span.start_time


def end(span: ReadableSpan) -> int:
    assert span.end_time is not None
    return span.end_time


def trace_id(span: ReadableSpan) -> str:
    return format_trace_id(span.context.trace_id)


def children(spans: Sequence[ReadableSpan], parent: ReadableSpan) -> list[ReadableSpan]:
    return [span for span in spans if span.parent and span.parent.span_id == parent.context.span_id]


def names(spans: Sequence[ReadableSpan]) -> list[str]:
    return [span.name for span in spans]


def only(spans: Sequence[ReadableSpan], name: str) -> ReadableSpan:
    [span] = [span for span in spans if span.name == name]
    return span


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    return dict(span.attributes or {})


def parent_header(number: int, sampled: bool = True) -> dict[str, str]:
    return {"traceparent": f"00-{number:032x}-{number:016x}-{'01' if sampled else '00'}"}


def test_a_request_is_a_span_of_the_callers_trace_with_a_child_for_each_stage(
    traced: Trace, photo: bytes
) -> None:
    with traced() as (client, spans):
        response = client.post("/detect-emotions", content=photo, headers=parent_header(7))
    server = only(spans, "POST /detect-emotions")
    assert server.kind is SpanKind.SERVER
    assert server.parent is not None
    assert (trace_id(server), format_span_id(server.parent.span_id)) == (f"{7:032x}", f"{7:016x}")
    assert response.headers["traceresponse"] == f"00-{7:032x}-{format_span_id(server.context.span_id)}-01"
    stages = children(spans, server)
    assert names(stages) == STAGES
    assert all(end(before) <= start(after) for before, after in pairwise(stages))
    assert start(server) <= start(stages[0])
    assert end(stages[-1]) <= end(server)
    assert attributes(server) == {
        "http.request.method": "POST", "http.response.status_code": 200, "http.route": "/detect-emotions",
        "url.path": "/detect-emotions", "url.scheme": "http",
        "fer.image.width": 512, "fer.image.height": 512, "fer.image.format": "jpeg",
        "fer.faces": 1, "fer.model": "balanced",
    }  # fmt: skip


def test_the_picture_has_a_span_for_drawing(traced: Trace, photo: bytes) -> None:
    with traced() as (client, spans):
        client.post("/detect-emotions", content=photo, headers={"accept": "image/jpeg"})
    assert names(children(spans, only(spans, "POST /detect-emotions"))) == [*STAGES, "draw"]


def test_requests_at_the_same_time_keep_their_stages_apart(traced: Trace, photo: bytes) -> None:
    with traced(workers=4) as (client, spans), ThreadPoolExecutor(8) as pool:
        post = lambda n: client.post("/detect-emotions", content=photo, headers=parent_header(n))  # noqa: E731
        list(pool.map(post, range(1, 9)))
    servers = [span for span in spans if span.kind is SpanKind.SERVER]
    assert {trace_id(span) for span in servers} == {f"{n:032x}" for n in range(1, 9)}
    for server in servers:
        stages = children(spans, server)
        assert names(stages) == STAGES
        assert {trace_id(span) for span in stages} == {trace_id(server)}


def test_each_image_of_a_batch_has_its_own_stages(traced: Trace, photo: bytes) -> None:
    with traced() as (client, spans):
        client.post(
            "/detect-emotions/batch", files=[("images", photo), ("images", b"junk"), ("images", photo)]
        )
    server = only(spans, "POST /detect-emotions/batch")
    images = [span for span in children(spans, server) if span.name == "image"]
    stages = Counter(tuple(names(children(spans, image))) for image in images)
    assert stages == {tuple(STAGES): 2, ("queue", "decode"): 1}
    assert Counter(attributes(image).get("error.type") for image in images) == {
        None: 2,
        "UnsupportedFormatError": 1,
    }


def test_each_frame_of_a_stream_is_a_trace_linked_to_the_streams(traced: Trace, photo: bytes) -> None:
    with traced() as (client, spans):
        url = f"ws://{client.base_url.host}:{client.base_url.port}/stream"
        with connect(url, proxy=None, additional_headers=parent_header(9)) as stream:
            for _ in range(2):
                stream.send(photo)
                stream.recv(30)
    server = only(spans, "GET /stream")
    assert trace_id(server) == f"{9:032x}"
    assert attributes(server)["http.response.status_code"] == 101
    frames = [span for span in spans if span.name == "frame"]
    assert len({trace_id(span) for span in [server, *frames]}) == 3
    for frame in frames:
        assert [link.context.span_id for link in frame.links] == [server.context.span_id]
        assert attributes(frame)["fer.faces"] == 1
        stages = names(children(spans, frame))
        assert stages[:2] == ["queue", "decode"]
        assert stages[-2:] == ["crop", "classify"]
        assert {"detect", "follow"} & set(stages)


def test_a_failure_is_told_where_it_happened_by_its_type_only(traced: Trace) -> None:
    with traced() as (client, spans):
        client.post("/detect-emotions", content=b"no image at all")
        client.get("/secret-path")
    server, unmatched = only(spans, "POST /detect-emotions"), only(spans, "GET")
    assert attributes(server)["fer.problem.code"] == "unsupported_media_type"
    assert server.status.is_unset
    assert names(children(spans, server)) == ["queue", "decode"]
    decode = only(spans, "decode")
    assert attributes(decode) == {"error.type": "UnsupportedFormatError"}
    assert (decode.status.is_ok, decode.status.description, decode.events) == (False, None, ())
    assert attributes(unmatched) == {
        "http.request.method": "GET", "http.response.status_code": 404, "url.scheme": "http",
        "fer.problem.code": "not_found",
    }  # fmt: skip


def test_an_answer_that_is_the_services_fault_is_an_error(traced: Trace, photo: bytes) -> None:
    with traced() as (client, spans):
        client.post("/detect-emotions", content=photo, headers={"x-request-timeout-ms": "1"})
    server = only(spans, "POST /detect-emotions")
    assert attributes(server)["error.type"] == "deadline_exceeded"
    assert not server.status.is_unset


def test_probes_and_what_the_caller_does_not_sample_leave_no_spans(traced: Trace, photo: bytes) -> None:
    with traced() as (client, spans):
        for path in ("/livez", "/readyz", "/metrics"):
            assert "traceresponse" not in client.get(path).headers
        response = client.post("/detect-emotions", content=photo, headers=parent_header(5, sampled=False))
        assert response.headers["traceresponse"].startswith(f"00-{5:032x}-")
    assert not spans


def test_a_probe_right_after_a_request_has_none_of_its_ids(
    traced: Trace, capsys: pytest.CaptureFixture[str]
) -> None:
    with traced() as (client, _):
        address = (client.base_url.host, client.base_url.port or 0)
        with socket.create_connection(address, timeout=30) as connection:
            request = b"GET /models HTTP/1.1\r\nHost: x\r\n\r\n"
            connection.sendall(request + request.replace(b"/models", b"/livez") + b"GET no more\r\n\r\n")
            while connection.recv(65_536):
                pass
    lines = [line for line in capsys.readouterr().out.splitlines() if "request_id=" in line]
    assert ["trace_id=" in line for line in lines] == [True, False]


def test_spans_hold_no_names_no_keys_and_no_queries(traced: Trace, photo: bytes) -> None:
    with traced(api_keys="sesame") as (client, spans):
        headers = {"x-api-key": "sesame", "user-agent": "sesame", "x-request-id": "sesame"}
        files = {"image": ("sesame.jpg", photo, "image/sesame")}
        client.post("/detect-emotions?api_key=sesame", files=files, headers=headers)
        client.post("/detect-emotions", content=b"sesame", headers=headers)
        client.post("/detect-emotions?model=sesame", content=photo, headers=headers)
        client.get("/sesame.jpg?sesame")
    assert len(spans) == 11
    assert "sesame" not in "".join(span.to_json() for span in spans)


def test_the_command_line_passes_its_trace_on(
    loaded: tuple[ModelStore, EmotionPipeline], photo: bytes
) -> None:
    recorder = Recorder()
    with serving(Settings(_env_file=None), loaded, recorder.tracing) as client:
        url = f"http://sesame:sesame@{client.base_url.host}:{client.base_url.port}"
        remote = RemoteAnalyzer(url, None, AnalysisOptions(max_faces=1), tracing=recorder.tracing)
        remote.photo(photo)
        remote.close()
    spans = recorder.spans()
    asked, answered = only(spans, "POST"), only(spans, "POST /detect-emotions")
    assert asked.kind is SpanKind.CLIENT
    assert children(spans, asked) == [answered]
    assert attributes(asked)["url.full"] == f"{client.base_url}/detect-emotions".replace("//d", "/d")
    assert attributes(asked)["http.response.status_code"] == 200


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "faces"}, False),
        ({ENDPOINT: "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", ENDPOINT: "http://collector:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", ENDPOINT: "http://collector:4318"}, False),
    ],
)
def test_the_standard_variables_turn_traces_on(environment: dict[str, str], asked: bool) -> None:
    assert asked_for(environment) is asked


def test_where_nobody_asks_nothing_is_traced() -> None:
    assert tracing_for({}) is NO_TRACING


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"OTEL_TRACES_EXPORTER": "smoke"}, "OTEL_TRACES_EXPORTER=smoke: no exporter 'smoke' is installed"),
        ({ENDPOINT: "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "smoke"}, "OTEL_EXPORTER_OTLP_PROTOCOL=smoke"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_told(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(TracingError, match=f"^{sentence}[^\n]*$"):
        tracing_for(environment)


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "-1", "the OTEL_ variables cannot be used: .*LENGTH_LIMIT"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "1", "the OTEL_ variables cannot be used: .*max_queue_size"),
        (f"{CREDENTIALS}_PROVIDER", "smoke", "OTEL_TRACES_EXPORTER=otlp: .* does not start: .*'smoke'"),
    ],
)  # fmt: skip
def test_what_the_library_refuses_is_told(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(TracingError, match=f"^{sentence}"):
        tracing_for({ENDPOINT: "http://collector:4318"})


def test_what_the_library_refuses_when_it_is_imported_is_told() -> None:
    program = "from service.telemetry.tracing import tracing_for as t; t({'OTEL_TRACES_EXPORTER': 'console'})"
    ended = subprocess.run(
        [sys.executable, "-c", program], env={"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "smoke"},
        cwd=ROOT, text=True, capture_output=True, check=False,
    )  # fmt: skip
    *_, last = ended.stderr.splitlines()
    assert "the OTEL_ variables cannot be used: OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must be" in last


def test_the_service_starts_without_the_extra_unless_traces_are_asked_for() -> None:
    program = """
import sys
sys.modules["opentelemetry.sdk"] = None  # any import of it fails
from service import cli
from service.telemetry.tracing import TracingError, tracing_for
cli.create_app()
try:
    tracing_for({"OTEL_TRACES_EXPORTER": "otlp"})
except TracingError as error:
    print(error)
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    told = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=ROOT, text=True, capture_output=True, check=True
    )
    assert told.stdout.count("\n") == 1
    assert "pip install -e '.[tracing]' in a checkout" in told.stdout


@contextmanager
def collector() -> Iterator[tuple[str, "Queue[ExportTraceServiceRequest]"]]:
    """Takes OTLP over HTTP, as a collector does."""
    received: Queue[ExportTraceServiceRequest] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.put(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_request(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", received
        finally:
            server.shutdown()
            thread.join()


def test_spans_reach_a_collector_and_log_lines_name_them(photo: bytes) -> None:
    with collector() as (url, received):
        environment = {"FER_LOG_FORMAT": "json", ENDPOINT: url, "OTEL_SERVICE_NAME": "faces", "NO_PROXY": "*"}
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "serve", "--port", str(port)],
            stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment,
        )  # fmt: skip
        assert server.stderr is not None
        try:
            assert any("startup complete" in line for line in server.stderr)
            address = f"http://127.0.0.1:{port}/detect-emotions"
            answer = httpx.post(address, content=photo, trust_env=False, timeout=30)
        finally:
            server.terminate()
            lines = [json.loads(line) for line in server.communicate(timeout=30)[1].splitlines()]
    resources = [one for _ in range(received.qsize()) for one in received.get().resource_spans]
    [access] = [line for line in lines if line["logger"] == "fer.access"]
    spans = [span for resource in resources for scope in resource.scope_spans for span in scope.spans]
    [sent] = [span for span in spans if span.name == "POST /detect-emotions"]
    assert (access["trace_id"], access["span_id"]) == (sent.trace_id.hex(), sent.span_id.hex())
    assert access["trace_id"] in answer.headers["traceresponse"]
    assert {span.name for span in spans} == {sent.name, *STAGES}
    told = {attribute.key: attribute.value.string_value for attribute in resources[0].resource.attributes}
    assert told["service.name"] == "faces"
