"""What handlers ask for: what a request says, and what the app that answers it holds.

Query and headers are read by functions, because FastAPI takes a tenth of a millisecond of the event loop more
for them as dependencies, of every answer and of every refusal; `openapi.PARAMETERS` documents them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Literal

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.requests import HTTPConnection

from service.api.errors import InvalidParameterError, NotReadyError
from service.api.intake import Intake
from service.api.loss import Loss
from service.runtime.engine import Engine
from service.runtime.job import always
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


TIMEOUT_HEADER = "X-Request-Timeout-Ms"


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
