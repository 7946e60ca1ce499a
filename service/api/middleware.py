"""Around every request: its id, its log line, its metrics, and the answer to what nobody foresaw."""

import asyncio
import re
from collections.abc import Mapping
from http import HTTPStatus
from secrets import token_hex
from time import perf_counter

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import sockets
from service.api.errors import INTERNAL, error_response, kind_of, problem_of
from service.api.execution import ClientGoneError
from service.api.headers import DEFAULTS
from service.runtime.engine import ClosedError
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import NO_TRACING, RequestSpan, Tracing

REQUEST_ID_HEADER = "X-Request-ID"
# An id goes into logs and headers: what could break either is not accepted.
_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")
# nginx's convention; never sent, since nobody is there to read it.
CLIENT_CLOSED_REQUEST = 499
UNMATCHED = "unmatched"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Probes and scrapes, every few seconds, would be most of all traces.
_UNTRACED = ("/livez", "/readyz", "/metrics")

log = structlog.get_logger("fer.access")


class RequestMiddleware:
    """Around all but CORS, as plain ASGI, so that it sees each answer's status, errors included."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Tracing) -> None:
        self.app, self.metrics, self.tracing = app, metrics, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is neither; see `_Exchange` for requests and `_Conversation` for WebSockets."""
        if scope["type"] == "http":
            await _Exchange(self, scope, send).run(receive)
        elif scope["type"] == "websocket":
            await _Conversation(self, scope, receive, send).run()
        else:
            await self.app(scope, receive, send)


class _Exchange:
    """One request and its answer."""

    def __init__(self, around: RequestMiddleware, scope: Scope, send: Send) -> None:
        self.app, self.metrics = around.app, around.metrics
        self.tracing = NO_TRACING if scope["path"].endswith(_UNTRACED) else around.tracing
        self.scope, self._send = scope, send
        self.headers = Headers(scope=scope)
        self.request_id = request_id_of(self.headers)
        # Free text in labels would let clients grow the metrics without end.
        self.method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        self.status: int | None = None

    async def run(self, receive: Receive) -> None:
        """Answer the request, whatever happens."""
        started = perf_counter()
        with self.tracing.server(self.method, self.scope["scheme"], self.headers) as self.span:
            _identify(self.scope, self.request_id, self.span)
            try:
                await self.app(self.scope, receive, self.send)
            except (ClientGoneError, ClientDisconnect):
                self.status = CLIENT_CLOSED_REQUEST
            except asyncio.CancelledError:
                # The server stops, and its grace is over: only that cancels a request from outside.
                await self._fail(ClosedError(), receive)
            except Exception as error:
                await self._fail(error, receive)
            self.span.ended(_route(self.scope), self._final_status, self._problem_code)
            # In the event loop's next round: by then the answer is on its way.
            asyncio.get_running_loop().call_soon(self._record, perf_counter() - started)

    async def send(self, message: Message) -> None:
        """Pass a message on, with the ids of request and trace and what browsers are told in the headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = message["headers"]
            told = {name for name, _ in headers}
            defaults = (header for header in _DEFAULTS if header[0] not in told)
            ids = _raw({REQUEST_ID_HEADER: self.request_id, **self.span.headers})
            message["headers"] = [*headers, *defaults, *ids, *self._end()]
        await self._send(message)

    def _end(self) -> list[tuple[bytes, bytes]]:
        """A header that closes the connection after a refusal that may have come before the body.

        For clients whose next request we could not tell from it: one who asks before sending a body may not
        send it at all, and an offer of HTTP/2 is only taken out of what begins with a head (`without_offer`).
        """
        if self.status is None or self.status < HTTPStatus.BAD_REQUEST:
            return []
        doubtful = "expect" in self.headers or "http2-settings" in self.headers
        return [(b"connection", b"close")] if doubtful else []

    async def _fail(self, error: Exception, receive: Receive) -> None:
        code = kind_of(error).code
        self.metrics.rejected(code)
        self.scope["state"]["problem_code"] = code
        response = error_response(error, self.request_id)
        if self.status is None:
            await response(self.scope, receive, self.send)

    def _record(self, seconds: float) -> None:
        route, status, code = _route(self.scope) or UNMATCHED, self._final_status, self._problem_code
        self.metrics.request(self.method, route, status, seconds)
        told = {"problem": code} if code else {}
        log.info(
            "request", method=self.method, route=route, status=status, **told, ms=round(seconds * 1000, 1)
        )

    @property
    def _final_status(self) -> int:
        return self.status or INTERNAL.status

    @property
    def _problem_code(self) -> str | None:
        code: str | None = self.scope["state"].get("problem_code")
        return code


class _Conversation:
    """One WebSocket, from the handshake to the close frame."""

    def __init__(self, around: RequestMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        self.app, self.metrics, self.tracing = around.app, around.metrics, around.tracing
        self.scope, self._receive, self._send = scope, receive, send
        self.headers = Headers(scope=scope)
        self.request_id = request_id_of(self.headers)
        # A handshake that is not answered otherwise is refused with this.
        self.status: int = HTTPStatus.FORBIDDEN
        self.code: int | None = None
        self.received = self.sent = 0

    async def run(self) -> None:
        """Let the app talk, close after what nobody foresaw, and leave one line in the log."""
        started = perf_counter()
        with self.tracing.server("GET", self.scope["scheme"], self.headers) as self.span:
            _identify(self.scope, self.request_id, self.span)
            try:
                await self.app(self.scope, self.receive, self.send)
            except Exception as error:
                await self._fail(error)
            self.span.ended(_route(self.scope), self.status, self.scope["state"].get("problem_code"))
            seconds = round(perf_counter() - started, 1)
            counts = {"received": self.received, "sent": self.sent}
            route = _route(self.scope) or UNMATCHED
            log.info("stream", route=route, code=self.code, **counts, seconds=seconds)

    async def receive(self) -> Message:
        """Pass a message on, counted."""
        message = await self._receive()
        if message["type"] == "websocket.receive":
            self.received += 1
        elif message["type"] == "websocket.disconnect":
            self._closed(message["code"])
        return message

    async def send(self, message: Message) -> None:
        """Pass a message on, counted; with the ids of request and trace where the handshake is answered."""
        if message["type"] == "websocket.accept":
            self.status = HTTPStatus.SWITCHING_PROTOCOLS
            MutableHeaders(scope=message).update({REQUEST_ID_HEADER: self.request_id, **self.span.headers})
        elif message["type"] == "websocket.http.response.start":
            self.status = message["status"]
        elif message["type"] == "websocket.send":
            self.sent += 1
        elif message["type"] == "websocket.close":
            self._closed(message.get("code", sockets.NORMAL))
        await self._send(message)

    def _closed(self, code: int) -> None:
        # The first close frame is the reason; the other side's is the answer to it.
        self.code = self.code or int(code)

    async def _fail(self, error: Exception) -> None:
        self.metrics.rejected(INTERNAL.code)
        self.scope["state"]["problem_code"] = INTERNAL.code
        problem = problem_of(error, self.request_id)
        if self.code is None:
            reason = f"{problem.code}: {problem.title}"
            await self.send({"type": "websocket.close", "code": sockets.INTERNAL_ERROR, "reason": reason})


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as a message has them."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


_DEFAULTS = _raw(DEFAULTS)


def _identify(scope: Scope, request_id: str, span: RequestSpan) -> None:
    """Put the ids where handlers (`Request.state`) and log lines find them."""
    scope.setdefault("state", {})["request_id"] = request_id
    # Never taken back: the server gives each request a context of its own.
    structlog.contextvars.bind_contextvars(request_id=request_id, **span.ids)


def _route(scope: Scope) -> str | None:
    """The template of the path that matched."""
    route: str | None = getattr(scope.get("route"), "path", None)
    return route


def request_id_of(headers: Headers) -> str:
    """The id that the client gave, where it can be used, or a new one."""
    given = headers.get(REQUEST_ID_HEADER, "")
    return given if _ACCEPTED_ID.fullmatch(given) else token_hex(16)
