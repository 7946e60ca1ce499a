"""Start and stop: load and check the graphs, warm them up, and at the end drain and close."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import structlog
from fastapi import FastAPI

from service.api.answers import digest
from service.api.deps import Runtime
from service.api.intake import Intake
from service.runtime.cpus import usable_cpus
from service.runtime.decoder_pool import DecoderPool
from service.runtime.engine import Engine
from service.runtime.model_store import ModelStore
from service.runtime.streams import Streams
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Tracing
from service.version import __version__
from service.vision.pipeline import EmotionPipeline

# Of the largest size; of the usual one there is room for hundreds.
BODIES_IN_MEMORY = 16

log = structlog.get_logger("fer")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load, serve, drain. Raises what `load` raises."""
    settings: Settings = app.state.settings
    store, pipeline = app.state.loaded or await asyncio.to_thread(load, settings)
    metrics: Metrics = app.state.metrics
    engine = Engine(settings.workers or usable_cpus(), settings.queue_size, on_drop=metrics.dropped)
    models = [(name, entry.version, digest(entry)) for name, entry in store.manifest.emotion.items()]
    metrics.describe(__version__, models, engine.capacity)
    intake = Intake(BODIES_IN_MEMORY * settings.max_body_bytes)
    tracing: Tracing = app.state.tracing
    served = pipeline.watched_by(tracing.span).helped_by(engine)
    streams = Streams(settings.max_streams)
    app.state.runtime = runtime = Runtime(store, served, engine, streams, intake, tracing)
    log.info("ready", workers=engine.workers, model=pipeline.default, api_keys=len(settings.api_keys))
    try:
        yield
    finally:
        finished = await engine.drain(settings.shutdown_grace_s)
        log.info("stopped", all_requests_finished=finished and not runtime.cut_short)
        # What still runs has outlived its request, and must not hold up the stop.
        engine.close(wait=False)
        await asyncio.to_thread(tracing.close)


def load(settings: Settings) -> tuple[ModelStore, EmotionPipeline]:
    """The checked store and its pipeline, each graph run once so that the first request is no slower.

    Raises ModelStoreError when the graphs cannot be used, and DecoderError.
    """
    started = monotonic()
    decoders = DecoderPool(lambda name, status: log.warning("decoder died", format=name, status=status))
    decoders.start()
    store = ModelStore.open(settings.model_store)
    # One thread a run: parallel requests, or a lone one's runs, fill the cores without fighting over them.
    pipeline = store.pipeline(settings.default_model, max_pixels=settings.max_pixels, decoder=decoders.decode)
    decoders.warm_up()
    log.info("loaded", models=len(store.manifest.emotion), seconds=round(monotonic() - started, 2))
    return store, pipeline
