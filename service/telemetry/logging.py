"""Structured logs, for people or for machines. Never pixels, never file names."""

import logging
import sys
from typing import Literal

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# What OpenTelemetry finds wrong with a caller's `baggage` or `tracestate` it quotes, a line for each entry:
# free text of clients, and half a megabyte of it for a header of five kilobytes.
_QUOTING = ("opentelemetry.baggage", "opentelemetry.trace")


def configure_logging(level: str, style: Literal["console", "json"]) -> None:
    """Send every log line, uvicorn's too, to standard error in one form. Called once, by the command line."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_final(style))
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    sockets = logging.getLogger("uvicorn.error")
    # What it says of a WebSocket at debug level holds headers and frames, and so keys and pixels; its line
    # for each handshake holds the URL, where a client may have put its key against all advice.
    sockets.setLevel(max(LEVELS[level], logging.INFO))
    sockets.addFilter(_not_a_handshake)
    for name in _QUOTING:
        logging.getLogger(name).setLevel(logging.ERROR)


def _not_a_handshake(record: logging.LogRecord) -> bool:
    return '"WebSocket %s"' not in str(record.msg)


def _final(style: Literal["console", "json"]) -> list[structlog.typing.Processor]:
    drop = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if style == "console":
        # The default formatter prints local variables, and so could print pixels.
        plain = structlog.dev.plain_traceback
        return [drop, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    return [drop, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
