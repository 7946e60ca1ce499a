"""What Ray's HTTP proxy answers itself, as the service's own problem details.

A request that no replica takes is refused by the proxy, in plain text; one whose replica died is not answered
at all. The proxy runs `middlewares` where RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names it.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import NotReadyError, error_response
from service.api.middleware import REQUEST_ID_HEADER, request_id_of
from service.runtime.deadline import ExpiredError
from service.runtime.engine import OverloadedError

# Ray's own health and route lists.
_RAY_PATHS = "/-/"


def middlewares() -> list[Middleware]:
    """What the proxy is to put around itself."""
    return [Middleware(ProxyProblems)]


class ProxyProblems:
    """Puts problem details in the place of the proxy's refusals; the app's own answers pass through."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is no HTTP request for the app."""
        if scope["type"] != "http" or scope["path"].startswith(_RAY_PATHS):
            await self.app(scope, receive, send)
            return
        answer = _Answer(send)
        await self.app(scope, receive, answer.send)
        refusal = answer.refusal()
        if refusal:
            request_id = request_id_of(Headers(scope=scope))
            response = error_response(refusal, request_id)
            response.headers[REQUEST_ID_HEADER] = request_id
            await response(scope, receive, send)


class _Answer:
    """Passes an answer on, but for a refusal, which it keeps."""

    def __init__(self, send: Send) -> None:
        self._send, self._begun = send, False
        self._refusal: Exception | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            headers = MutableHeaders(scope=message)
            if REQUEST_ID_HEADER in headers:
                # The proxy adds a second one, unchecked, to that of the app.
                headers[REQUEST_ID_HEADER] = headers[REQUEST_ID_HEADER]
            self._refusal = _refusal(message["status"], headers)
        if self._refusal is None:
            await self._send(message)

    def refusal(self) -> Exception | None:
        """Why there is no answer yet; None where there is one."""
        gone = NotReadyError("the replica that had this request is gone; another one can take it")
        return self._refusal if self._begun else gone


def _refusal(status: int, headers: Headers) -> Exception | None:
    """The proxy's refusals are the only plain text of these statuses; the app's are problem details."""
    if not headers.get("content-type", "").startswith("text/plain"):
        return None
    if status == 408:
        return ExpiredError("the request ran past the proxy's time limit")
    if status not in (429, 503):
        return None
    if "retry-after" in headers:
        return OverloadedError(int(headers["retry-after"]))
    return NotReadyError("no replica is running")
