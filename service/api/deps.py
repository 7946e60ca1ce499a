"""What handlers ask for: dependencies for who may ask, functions for what a request says and its app holds.

Query and headers are read by functions, because FastAPI takes a tenth of a millisecond of the event loop more
for them as dependencies, of every answer and of every refusal; `openapi.PARAMETERS` documents them. The
dependencies that are left are coroutines, though none awaits: FastAPI calls plain functions in a thread, and
under load each of those hops waits for the interpreter lock that the workers hold.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Annotated, Literal

from fastapi import Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field, ValidationError
from starlette.requests import HTTPConnection

from service import keys
from service.api.errors import ForbiddenOriginError, InvalidParameterError, NotReadyError, UnauthorizedError
from service.api.intake import Intake
from service.api.loss import Loss
from service.api.sockets import offered_key
from service.runtime.engine import Engine, always
from service.runtime.model_store import ModelStore
from service.runtime.streams import Streams
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Tracing
from service.vision.pipeline import AnalysisOptions, EmotionPipeline


@dataclass(slots=True)
class Runtime:
    """What the lifespan loads and handlers share.

    cut_short: whether the server gave up on requests, or frames of streams, when its grace was over.
    """

    store: ModelStore
    pipeline: EmotionPipeline
    engine: Engine
    streams: Streams
    intake: Intake
    tracing: Tracing
    cut_short: bool = False


def settings_of(connection: HTTPConnection) -> Settings:
    """The settings of the app that answers."""
    settings: Settings = connection.app.state.settings
    return settings


def metrics_of(connection: HTTPConnection) -> Metrics:
    """The metrics of the app that answers."""
    metrics: Metrics = connection.app.state.metrics
    return metrics


def connected_of(connection: HTTPConnection) -> Callable[[], bool]:
    """Tells, in any thread, whether the client is still there; see `Connection.connected`."""
    connected: Callable[[], bool] = connection.scope["state"].get("connected", always)
    return connected


def loss_of(connection: HTTPConnection) -> Loss | None:
    """Tells, on the event loop, when the client is gone; None where our own server does not serve."""
    loss: Loss | None = connection.scope["state"].get("loss")
    return loss


def runtime_of(connection: HTTPConnection) -> Runtime:
    """What the lifespan has loaded. Raises NotReadyError before that."""
    runtime: Runtime | None = connection.app.state.runtime
    if runtime is None:
        raise NotReadyError("the service is loading")
    return runtime


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


TIMEOUT_HEADER = "X-Request-Timeout-Ms"
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


def deadline_of(connection: HTTPConnection) -> float:
    """When this request must be done, on the clock of `time.monotonic`; its header may shorten that.

    Raises InvalidParameterError.
    """
    seconds = settings_of(connection).request_timeout_s
    timeout_ms = connection.headers.get(TIMEOUT_HEADER)
    if timeout_ms is not None:
        # Ten digits are longer than any request may take; a number of thousands would take long to read.
        digits = timeout_ms.lstrip("0")[:10]
        if not (digits and timeout_ms.isascii() and timeout_ms.isdecimal()):
            raise InvalidParameterError(
                f"{TIMEOUT_HEADER}: it must be a positive whole number of milliseconds"
            )
        seconds = min(seconds, int(digits) / 1000)
    return monotonic() + seconds


class DetectQuery(BaseModel):
    """The query parameters of a detection."""

    model: str | None = Field(
        None,
        description="Emotion model; see `GET /models`. `ferplus` answers as ten people would.",
        max_length=100,
    )
    min_face_size: float | None = Field(
        None,
        ge=12,
        le=65535,
        allow_inf_nan=False,
        description="Smallest face to look for, in pixels of the upright image. "
        "Default: 4 % of the longer side, or a quarter of the shorter one if that is less; at least 40.",
    )
    min_confidence: float = Field(
        0.0, ge=0, le=1, allow_inf_nan=False, description="Leave out faces the detector is less sure of."
    )
    max_faces: int | None = Field(None, ge=1, le=100_000, description="Only the largest so many faces.")
    include: list[Literal["crops"]] | None = Field(
        None, description="`crops` adds the 48x48 crop of each face as base64 PNG."
    )

    @property
    def options(self) -> AnalysisOptions:
        """What the pipeline is asked for."""
        return AnalysisOptions(self.model, self.min_face_size, self.min_confidence, self.max_faces)

    @property
    def include_crops(self) -> bool:
        """Whether each face comes with its crop."""
        return "crops" in (self.include or [])


# Most requests have none, and reading one takes time of the event loop.
_NO_QUERY = DetectQuery.model_validate({})


def query_of(connection: HTTPConnection) -> DetectQuery:
    """The query parameters of a detection. Raises RequestValidationError."""
    if not connection.scope["query_string"]:
        return _NO_QUERY
    given = connection.query_params
    names = [name for name in DetectQuery.model_fields if name in given]
    values = {name: given.getlist(name) if name == "include" else given[name] for name in names}
    try:
        return DetectQuery.model_validate(values)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error
