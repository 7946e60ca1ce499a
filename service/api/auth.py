"""Who may ask: dependencies that refuse a request without a key, and a WebSocket of another site's page.

They are coroutines, though none awaits: FastAPI calls plain functions in a thread, and under load each of
those hops waits for the interpreter lock that the workers hold.
"""

from typing import Annotated

from fastapi import Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import HTTPConnection

from service import keys
from service.api.deps import settings_of
from service.api.errors import ForbiddenOriginError, UnauthorizedError
from service.api.sockets import offered_key


class ApiKey(APIKeyHeader):
    """Refuses the request unless its key is one of the configured ones (or none is configured)."""

    async def __call__(self, request: HTTPConnection) -> str | None:
        """The key, as it was sent. Raises UnauthorizedError."""
        if not settings_of(request).api_keys:
            return None
        key = await super().__call__(request)
        # As the bytes that were sent: the framework reads headers as Latin-1.
        given = (key or "").encode("latin-1")
        _check_key(request, given, "the header X-API-Key is missing or holds no valid key")
        return key


_HEADER, _NEEDED = "X-API-Key", "Needed where the service was started with `FER_API_KEYS`."
require_api_key = ApiKey(name=_HEADER, scheme_name="APIKeyHeader", auto_error=False, description=_NEEDED)
_api_key_header = APIKeyHeader(name=_HEADER, auto_error=False, description=_NEEDED)
_bearer = HTTPBearer(auto_error=False, description="The same key, where deepface's clients send theirs.")


async def require_key_or_bearer(
    connection: HTTPConnection,
    key: Annotated[str | None, Security(_api_key_header)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> None:
    """The same, with the key in either header."""
    given = (key or (bearer.credentials if bearer else "")).encode("latin-1")
    _check_key(connection, given, "neither the header X-API-Key nor a bearer token holds a valid key")


async def require_stream_key(connection: HTTPConnection) -> None:
    """The same for a WebSocket, whose key may be in a subprotocol."""
    key = offered_key(connection)
    _check_key(
        connection, key, "neither the header X-API-Key nor a subprotocol fer.key.<key> holds a valid key"
    )


async def require_own_origin(connection: HTTPConnection) -> None:
    """Refuse a WebSocket that a page of another site opens: of these, browsers ask no permission.

    A client that is no browser sends no Origin. The scheme is not compared, since a proxy may end TLS.
    """
    origin = connection.headers.get("origin", "").lower()
    if not origin or {"*", origin} & set(settings_of(connection).allowed_origins):
        return
    if origin.partition("://")[2] != connection.headers.get("host", "").lower():
        raise ForbiddenOriginError("pages of this origin may not use the service; see FER_ALLOWED_ORIGINS")


def _check_key(connection: HTTPConnection, key: bytes, refusal: str) -> None:
    accepted = settings_of(connection).api_keys
    if accepted and not keys.known(key, accepted):
        raise UnauthorizedError(refusal)
