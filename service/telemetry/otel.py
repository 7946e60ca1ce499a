"""Traces by OpenTelemetry, which nothing else of the service imports, and this only where it is asked for."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from threading import Thread

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import (
    HTTP_REQUEST_METHOD,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
)
from opentelemetry.semconv.attributes.service_attributes import SERVICE_NAME, SERVICE_VERSION
from opentelemetry.semconv.attributes.url_attributes import URL_FULL, URL_PATH, URL_SCHEME
from opentelemetry.trace import Link, Span, SpanKind, StatusCode

from service.telemetry.tracing import RequestSpan, TracingError
from service.version import __version__
from service.vision.types import Analysis

# The OTLP exporter has a package for each protocol; the specification's default comes with the extra.
_PROTOCOLS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_CLOSE_S = 2.0


class OpenTelemetry:
    """Spans of one provider; see the Protocol `Tracing`."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("fer-service", __version__)

    @classmethod
    def exporting(cls, environment: Mapping[str, str]) -> "OpenTelemetry":
        """Send spans where the OTEL_ variables say. Raises TracingError."""
        exporters = _exporters(environment)
        own = Resource({SERVICE_NAME: "fer-service", SERVICE_VERSION: __version__})
        # The library's defaults, ours over them, and over both what the environment says.
        resource = Resource.create().merge(own).merge(OTELResourceDetector().detect())
        try:
            provider = TracerProvider(resource=resource, shutdown_on_exit=False)
            for exporter in exporters:
                provider.add_span_processor(BatchSpanProcessor(exporter))
        except ValueError as error:
            raise TracingError(f"the OTEL_ variables cannot be used: {error}") from error
        return cls(provider)

    @contextmanager
    def server(self, method: str, scheme: str, headers: Mapping[str, str]) -> Iterator[RequestSpan]:
        """See Tracing."""
        caller = propagate.extract(headers)
        attributes = {HTTP_REQUEST_METHOD: method, URL_SCHEME: scheme}
        with self._current(method, SpanKind.SERVER, attributes, caller) as span:
            yield _ServerSpan(span, method)

    @contextmanager
    def client(self, method: str, url: str) -> Iterator[RequestSpan]:
        """See Tracing."""
        with self._current(method, SpanKind.CLIENT, {HTTP_REQUEST_METHOD: method, URL_FULL: url}) as span:
            yield _ClientSpan(span)

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """See Tracing."""
        with self._current(name):
            yield

    @contextmanager
    def frame(self) -> Iterator[None]:
        """See Tracing. One trace for all of a stream would grow for hours, and be sampled whole or not."""
        stream = trace.get_current_span().get_span_context()
        with self._current("frame", context=Context(), links=[Link(stream)]):
            yield

    @contextmanager
    def queue(self) -> Iterator[Callable[[], None]]:
        """See Tracing."""
        span = self._tracer.start_span("queue")

        def taken() -> None:
            if span.is_recording():
                span.end()

        try:
            yield taken
        finally:
            taken()

    def analyzed(self, analysis: Analysis) -> None:
        """See Tracing."""
        trace.get_current_span().set_attributes({
            "fer.image.width": analysis.width,
            "fer.image.height": analysis.height,
            "fer.image.format": analysis.format,
            "fer.faces": len(analysis.faces),
            "fer.model": analysis.model,
        })  # fmt: skip

    def close(self) -> None:
        """See Tracing. A collector that does not answer must not hold up the end of the process."""
        closing = Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(_CLOSE_S)

    @contextmanager
    def _current(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, str] | None = None,
        context: Context | None = None,
        links: list[Link] | None = None,
    ) -> Iterator[Span]:
        """A span that tells the type of an exception leaving it, but not its text: it may quote anything."""
        with self._tracer.start_as_current_span(
            name, context, kind, attributes, links, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_attribute(ERROR_TYPE, type(error).__qualname__)
                span.set_status(StatusCode.ERROR)
                raise


class _ClientSpan:
    """The span of a request that is sent from here; its headers tell the other service of the trace."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self.headers: dict[str, str] = {}
        propagate.inject(self.headers)

    @property
    def ids(self) -> Mapping[str, str]:
        """The span's."""
        return _ids(self._span)

    def ended(self, route: str | None, status: int, code: str | None) -> None:  # noqa: ARG002
        """Every status that tells of an error is one to the client."""
        self._span.set_attribute(HTTP_RESPONSE_STATUS_CODE, status)
        if status >= 400:
            self._span.set_attribute(ERROR_TYPE, code or str(status))
            self._span.set_status(StatusCode.ERROR)


class _ServerSpan:
    """The span of a request that is answered here."""

    def __init__(self, span: Span, method: str) -> None:
        self._span, self._method = span, method

    @property
    def ids(self) -> Mapping[str, str]:
        """The span's."""
        return _ids(self._span)

    @property
    def headers(self) -> Mapping[str, str]:
        """Trace Context level 2: which trace the answer belongs to."""
        ids = self.ids
        return {"traceresponse": f"00-{ids['trace_id']}-{ids['span_id']}-{ids['trace_flags']}"}

    def ended(self, route: str | None, status: int, code: str | None) -> None:
        """A path that matched nothing is the client's free text, and stays out."""
        self._span.set_attribute(HTTP_RESPONSE_STATUS_CODE, status)
        if route is not None:
            self._span.update_name(f"{self._method} {route}")
            self._span.set_attributes({HTTP_ROUTE: route, URL_PATH: route})
        if code is not None:
            self._span.set_attribute("fer.problem.code", code)
        if status >= 500 or code == "internal_error":
            self._span.set_attribute(ERROR_TYPE, code or str(status))
            self._span.set_status(StatusCode.ERROR)


def _ids(span: Span) -> dict[str, str]:
    context = span.get_span_context()
    return {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
        "trace_flags": f"{context.trace_flags:02x}",
    }


def _exporters(environment: Mapping[str, str]) -> list[SpanExporter]:
    asked = environment.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    return [_exporter(name.strip(), environment) for name in asked.split(",")]


def _exporter(name: str, environment: Mapping[str, str]) -> SpanExporter:
    kind = _otlp(environment) if name == "otlp" else name
    found = entry_points(group="opentelemetry_traces_exporter", name=kind)
    if not found:
        raise TracingError(f"OTEL_TRACES_EXPORTER={name}: no exporter {kind!r} is installed")
    try:
        exporter: SpanExporter = next(iter(found)).load()()
    except Exception as error:  # whatever an exporter does that is made with what the environment says
        raise TracingError(
            f"OTEL_TRACES_EXPORTER={name}: exporter {kind!r} does not start: {error}"
        ) from error
    return exporter


def _otlp(environment: Mapping[str, str]) -> str:
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = environment.get(variable, "").strip()
        if protocol and protocol not in _PROTOCOLS:
            raise TracingError(f"{variable}={protocol}: it must be one of {', '.join(_PROTOCOLS)}")
        if protocol:
            return _PROTOCOLS[protocol]
    return _PROTOCOLS["http/protobuf"]
