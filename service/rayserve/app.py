"""`service.rayserve.app:app`, which `deploy/ray/serve.yaml` deploys. Needs the `[ray]` extra."""

import ray
from fastapi import FastAPI
from ray import serve

from service.main import create_app
from service.settings import read_settings
from service.telemetry.logging import configure_logging


def build() -> FastAPI:
    """The app of one replica, made there: its own environment counts, and nothing is pickled."""
    settings = read_settings()
    # Ray schedules by CPUs and enforces none: a replica that took every core would slow down the others.
    settings = settings.model_copy(update={"workers": settings.workers or _assigned_cpus()})
    configure_logging(settings.log_level, settings.log_format)
    return create_app(settings)


def _assigned_cpus() -> int:
    return max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)))


app = serve.deployment(serve.ingress(build)(), name="fer-service").bind()
