"""How a WebSocket is opened and closed: subprotocols, the key among them, and close codes."""

import base64
import binascii
from contextlib import suppress

from fastapi import WebSocket, WebSocketDisconnect
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketState

from service.api.schemas import Problem

# What a client may offer, and is then answered with; a browser insists on an answer.
PROTOCOL = "fer.v1"
# Browsers let a page set no header of a WebSocket but its subprotocols, and URLs end up in logs.
KEY_PROTOCOL = "fer.key."

NORMAL, GOING_AWAY, INVALID_DATA, POLICY_VIOLATION = 1000, 1001, 1007, 1008
TOO_BIG, INTERNAL_ERROR, TRY_AGAIN = 1009, 1011, 1013
# The reason of GOING_AWAY.
STOPPING = "not_ready: the service is shutting down"
# By the code of the problem; every other one breaks a policy.
CLOSE_CODES = {
    "not_ready": GOING_AWAY,
    "body_too_large": TOO_BIG,
    "internal_error": INTERNAL_ERROR,
    "overloaded": TRY_AGAIN,
}
# A close frame has 125 bytes, two of them for the code.
MAX_REASON_BYTES = 123


def offered_key(connection: HTTPConnection) -> bytes:
    """The API key of a WebSocket: header X-API-Key, or base64url in a subprotocol `fer.key.<key>`."""
    header = connection.headers.get("x-api-key")
    if header is not None:
        return header.encode("latin-1")
    offers = (name for name in connection.scope["subprotocols"] if name.startswith(KEY_PROTOCOL))
    return next(map(_decoded, offers), b"")


async def accept(socket: WebSocket) -> None:
    """Open the socket, with the subprotocol if the client offered it."""
    await socket.accept(PROTOCOL if PROTOCOL in socket.scope["subprotocols"] else None)


async def refuse(socket: WebSocket, problem: Problem) -> None:
    """Close the socket and tell why, opening it first if need be.

    Of a handshake that fails a browser tells its page nothing, of a socket that closes the code and reason.
    A client that has left is told nothing.
    """
    with suppress(WebSocketDisconnect, OSError):  # the server's own error is an OSError
        if socket.application_state is WebSocketState.CONNECTING:
            await accept(socket)
        code = CLOSE_CODES.get(problem.code, POLICY_VIOLATION)
        await close(socket, code, f"{problem.code}: {problem.detail}")


async def close(socket: WebSocket, code: int, reason: str) -> None:
    """Close the socket, the reason cut to what a close frame holds."""
    await socket.close(code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))


def _decoded(offer: str) -> bytes:
    text = offer.removeprefix(KEY_PROTOCOL)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
