"""The app: wiring, nothing else."""

import os
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from service.api.deps import Runtime
from service.api.errors import ALL_KINDS, install_error_handlers
from service.api.middleware import RequestMiddleware
from service.api.openapi import complete
from service.api.routes import compat, detect, docs, metrics, models, page, probes, stream
from service.lifespan import lifespan
from service.runtime.model_store import ModelStore
from service.settings import Settings, read_settings
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Tracing, tracing_for
from service.version import __version__
from service.vision.pipeline import EmotionPipeline

DESCRIPTION = """
Finds the faces in an image and tells, for each, how likely people would call its expression
angry, disgust, fear, happy, sad, surprise or neutral. The probabilities describe what people see
in a face, not what its owner feels. The default model answers in the words of FER2013's labels,
`model=ferplus` in those of the ten people whom FER+ asked of each face.
"""


def create_app(
    settings: Settings | None = None,
    loaded: tuple[ModelStore, EmotionPipeline] | None = None,
    tracing: Tracing | None = None,
) -> FastAPI:
    """The service as an ASGI app.

    loaded: the store and pipeline to serve; without them the lifespan loads those of the settings. tracing:
    without it, what the OTEL_ variables ask for. Raises SettingsError and TracingError.
    """
    settings = settings or read_settings()
    app = FastAPI(
        title="fer-service",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url="/openapi.json" if settings.docs else None,
        docs_url=None,
        redoc_url=None,
        # It would name the scheme that came here: where a proxy ends TLS, photo and key would go openly.
        redirect_slashes=False,
        # FastAPI's own spans and logs hold paths, queries and error texts as they came; ours do not.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.settings = settings
    app.state.loaded, app.state.runtime = loaded, None
    app.state.metrics = _metrics(app)
    app.state.tracing = tracing or tracing_for(os.environ)
    _add_middleware(app, settings)
    install_error_handlers(app)
    _add_routes(app, settings)
    _complete_openapi(app)
    return app


def _add_middleware(app: FastAPI, settings: Settings) -> None:
    app.add_middleware(RequestMiddleware, metrics=app.state.metrics, tracing=app.state.tracing)
    if settings.allowed_origins:
        # Outermost, so that a page can read errors that nobody foresaw as well.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=("GET", "POST"),
            allow_headers=(
                "Authorization",
                "traceparent",
                "X-API-Key",
                "X-Request-ID",
                "X-Request-Timeout-Ms",
            ),
            expose_headers=("Retry-After", "Server-Timing", "traceresponse", "X-Faces", "X-Request-ID"),
        )


def _add_routes(app: FastAPI, settings: Settings) -> None:
    # As they are: a router that FastAPI includes looks for changes of all its routes at each request.
    for module in (detect, models, compat, stream, probes):
        app.routes.extend(module.router.routes)
    if settings.metrics:
        app.routes.extend(metrics.router.routes)
    if settings.docs:
        app.routes.extend(docs.router.routes)
        app.mount("/docs/assets", docs.assets)
    app.routes.extend(page.router.routes)
    app.mount("/page", page.assets)


def _metrics(app: FastAPI) -> Metrics:
    def read(value: Callable[[Runtime], float]) -> Callable[[], float]:
        return lambda: value(app.state.runtime) if app.state.runtime else 0

    return Metrics(
        queued=read(lambda runtime: runtime.engine.queued),
        inflight=read(lambda runtime: runtime.engine.inflight),
        streams=read(lambda runtime: runtime.streams.open),
        ready=read(lambda runtime: runtime.engine.accepting),
        codes=[kind.code for kind in ALL_KINDS],
    )


def _complete_openapi(app: FastAPI) -> None:
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = complete(plain())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
