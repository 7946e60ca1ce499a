"""Around every request: its id, its log line, its metrics, and the answer to what nobody foresaw."""

import re
from time import perf_counter
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders, State
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import INTERNAL, error_response
from service.api.execution import ClientGoneError
from service.telemetry.metrics import Metrics

REQUEST_ID_HEADER = "X-Request-ID"
# An id goes into logs and headers: what could break either is not accepted.
_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")
# nginx's convention; never sent, since nobody is there to read it.
CLIENT_CLOSED_REQUEST = 499
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

log = structlog.get_logger("fer.access")


class RequestMiddleware:
    """Outermost, as plain ASGI, so that it sees each answer's status, errors included."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is not HTTP; see `_Exchange` for what is."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await _Exchange(self.app, self.metrics, scope, send).run(receive)


class _Exchange:
    """One request and its answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics, scope: Scope, send: Send) -> None:
        self.app, self.metrics, self.scope, self._send = app, metrics, scope, send
        self.request_id = _request_id(Headers(scope=scope))
        self.status: int | None = None

    async def run(self, receive: Receive) -> None:
        """Answer the request, whatever happens."""
        # Starlette's Request.state reads this.
        State(self.scope.setdefault("state", {})).request_id = self.request_id
        started = perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=self.request_id):
            try:
                await self.app(self.scope, receive, self.send)
            except (ClientGoneError, ClientDisconnect):
                self.status = CLIENT_CLOSED_REQUEST
            except Exception as error:
                await self._fail(error, receive)
            self._record(perf_counter() - started)

    async def send(self, message: Message) -> None:
        """Pass a message on, with the request id in the headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)[REQUEST_ID_HEADER] = self.request_id
        await self._send(message)

    async def _fail(self, error: Exception, receive: Receive) -> None:
        self.metrics.rejected(INTERNAL.code)
        response = error_response(error, self.request_id)
        if self.status is None:
            await response(self.scope, receive, self.send)

    def _record(self, seconds: float) -> None:
        # Free text in labels would let clients grow the metrics without end.
        method = self.scope["method"] if self.scope["method"] in _METHODS else "_OTHER"
        route = getattr(self.scope.get("route"), "path", "unmatched")
        status = self.status or INTERNAL.status
        self.metrics.request(method, route, status, seconds)
        log.info("request", method=method, route=route, status=status, ms=round(seconds * 1000, 1))


def _request_id(headers: Headers) -> str:
    given = headers.get(REQUEST_ID_HEADER, "")
    return given if _ACCEPTED_ID.fullmatch(given) else uuid4().hex
