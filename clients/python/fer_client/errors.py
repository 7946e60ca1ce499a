"""The one exception that the client raises for what the service refuses."""

from dataclasses import dataclass


@dataclass(eq=False)
class FerError(Exception):
    """The service refused. What never reached it is httpx's or websockets' own exception.

    code: stable, what a program should look at (`overloaded`, `invalid_image`, ...); `http_error` where
    something else than the service answered. status: of the HTTP answer, None for a stream that was closed;
    request_id: under which the service's log has it; retry_after: seconds, where the service said;
    close_code: of the WebSocket, for a stream that was closed.
    """

    code: str
    detail: str
    status: int | None = None
    request_id: str | None = None
    retry_after: float | None = None
    close_code: int | None = None

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"
