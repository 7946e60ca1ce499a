"""Traces, as the rest of the service sees them: asked for by the standard OTEL_ variables, else nothing.

Spans hold times, routes, statuses and sizes. Never pixels, file names, keys, queries or error texts.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from service.vision.types import Analysis


class TracingError(Exception):
    """The environment asks for traces that cannot be had; the message says what to do."""


class RequestSpan(Protocol):
    """The span of one request, on the side that answers or on the side that asks."""

    @property
    def ids(self) -> Mapping[str, str]:
        """For log lines: trace_id, span_id and trace_flags; empty where nothing is traced."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The trace's context for the other side."""
        ...

    def ended(self, route: str | None, status: int, code: str | None, /) -> None:
        """Tell how it ended. route: None where none matched; code: of the problem, if there was one."""
        ...


class Tracing(Protocol):
    """Makes spans; each becomes the parent of those that begin inside of it, on whatever thread."""

    def server(
        self, method: str, scheme: str, headers: Mapping[str, str], /
    ) -> AbstractContextManager[RequestSpan]:
        """Around one request that is answered here. headers: may name the caller's trace, in lower case."""
        ...

    def client(self, method: str, url: str, /) -> AbstractContextManager[RequestSpan]:
        """Around one request that is sent from here. url: without a query."""
        ...

    def span(self, name: str, /) -> AbstractContextManager[object]:
        """Around one stage of the work."""
        ...

    def frame(self) -> AbstractContextManager[object]:
        """Around one frame of a stream: a trace of its own, linked to the stream's."""
        ...

    def queue(self) -> AbstractContextManager[Callable[[], None]]:
        """Around a call that waits for a worker, who says by calling what it gets that the wait is over."""
        ...

    def analyzed(self, analysis: Analysis, /) -> None:
        """Say of the current span what was analyzed in it."""
        ...

    def close(self) -> None:
        """Send what is not sent yet."""
        ...


class _NoSpan:
    ids: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}

    def ended(self, _route: str | None, _status: int, _code: str | None, /) -> None:
        pass


class _NoTracing:
    """What is used where nobody asks for traces."""

    def server(
        self, _method: str, _scheme: str, _headers: Mapping[str, str], /
    ) -> AbstractContextManager[RequestSpan]:
        return nullcontext(_NoSpan())

    def client(self, _method: str, _url: str, /) -> AbstractContextManager[RequestSpan]:
        return nullcontext(_NoSpan())

    def span(self, _name: str, /) -> AbstractContextManager[object]:
        return nullcontext()

    def frame(self) -> AbstractContextManager[object]:
        return nullcontext()

    def queue(self) -> AbstractContextManager[Callable[[], None]]:
        return nullcontext(lambda: None)

    def analyzed(self, _analysis: Analysis, /) -> None:
        pass

    def close(self) -> None:
        pass


NO_TRACING: Tracing = _NoTracing()


def tracing_for(environment: Mapping[str, str]) -> Tracing:
    """What the OTEL_ variables ask for. Raises TracingError with one sentence where that cannot be had.

    On where OTEL_TRACES_EXPORTER names an exporter, or, unless it says `none`, where an OTLP endpoint is set.
    """
    if not asked_for(environment):
        return NO_TRACING
    try:
        from service.telemetry.otel import OpenTelemetry  # noqa: PLC0415 - only where the extra is installed
    except ImportError as error:
        raise TracingError(
            f"OTEL_ variables ask for traces, which need more packages ({error.name} is missing): "
            "pip install -e '.[tracing]' in a checkout"
        ) from error
    except ValueError as error:
        # The library reads some of them when it is imported, and names in its message what it refuses.
        raise TracingError(f"the OTEL_ variables cannot be used: {error}") from error
    return OpenTelemetry.exporting(environment)


def asked_for(environment: Mapping[str, str]) -> bool:
    """Whether the OTEL_ variables turn traces on."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = environment.get("OTEL_TRACES_EXPORTER", "").strip()
    endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return exporters != "none" if exporters else any(environment.get(name) for name in endpoints)
