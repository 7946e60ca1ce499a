"""Prometheus metrics, in base units with few labels; one registry for each app."""

import math
import platform
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    Summary,
    disable_created_metrics,
    generate_latest,
)

from service.telemetry.cgroup import CpuQuotaCollector, MemoryLimitCollector
from service.telemetry.process import ProcessCollector
from service.vision.types import EMOTIONS, Analysis, AnalyzedFace

STAGES = ("queue", "decode", "detect", "crop", "classify")
STREAM_OUTCOMES = ("ok", "error", "dropped")
# When each series began: a quarter of all lines, which nobody asks for, and the event loop writes every one.
disable_created_metrics()  # type: ignore[no-untyped-call]
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """All metrics of one app.

    queued, inflight, streams, ready: read when Prometheus scrapes; codes: of all errors, so that the first
    of each kind is a step from 0 and not a series that begins at 1, which `rate` would not see.
    """

    def __init__(
        self,
        queued: Callable[[], float],
        inflight: Callable[[], float],
        streams: Callable[[], float],
        ready: Callable[[], float],
        codes: Iterable[str] = (),
    ) -> None:
        self.registry = registry = CollectorRegistry()
        registry.register(ProcessCollector())
        PlatformCollector(registry=registry)
        registry.register(CpuQuotaCollector())
        registry.register(MemoryLimitCollector())
        self._requests = Histogram(
            "http_server_request_duration_seconds",
            "Duration of HTTP requests.",
            ["http_request_method", "http_route", "http_response_status_code"],
            buckets=_SECONDS,
            registry=registry,
        )
        stages = Histogram(
            "fer_stage_duration_seconds",
            "Duration of each stage of an analysis.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._faces = Histogram(
            "fer_faces_per_image",
            "Faces found in an image.",
            buckets=(0, 1, 2, 3, 5, 10, 20, 50, 100),
            registry=registry,
        )
        self._emotions = Counter(
            "fer_emotions", "Faces by dominant emotion.", ["emotion", "model"], registry=registry
        )
        self._uncertain = Counter(
            "fer_uncertain_faces",
            "Faces whose emotion is wrong more often than right.",
            ["model"],
            registry=registry,
        )
        self._entropy = Summary(
            "fer_emotion_entropy_ratio",
            "Entropy of a face's probabilities; 0: one emotion is certain, 1: all are equally likely.",
            registry=registry,
        )
        self._face_size = Histogram(
            "fer_face_size_pixels",
            "Square root of a face's area in the upright image.",
            buckets=(20, 40, 80, 160, 320, 640),
            registry=registry,
        )
        self._rejected = Counter(
            "fer_rejected", "Requests answered with an error.", ["code"], registry=registry
        )
        self._dropped = Counter(
            "fer_dropped_calls",
            "Calls that no worker began: the client had gone, or the deadline passed.",
            registry=registry,
        )
        self._batch = Histogram(
            "fer_batch_size", "Images in a batch request.", buckets=(1, 2, 4, 8, 16, 32), registry=registry
        )
        Gauge("fer_queue_depth", "Calls that wait for a worker.", registry=registry).set_function(queued)
        Gauge("fer_inflight_requests", "Admitted requests.", registry=registry).set_function(inflight)
        self._capacity = Gauge(
            "fer_inflight_requests_limit", "Admitted requests at which others are refused.", registry=registry
        )
        Gauge("fer_streams", "Open streams.", registry=registry).set_function(streams)
        Gauge("fer_ready", "1 while /readyz answers 200.", registry=registry).set_function(ready)
        self._stream_frames = Counter(
            "fer_stream_frames", "Frames of streams by what became of them.", ["outcome"], registry=registry
        )
        self._model = Gauge(
            "fer_model_info", "Loaded emotion models.", ["name", "version", "digest"], registry=registry
        )
        self._build = Info("fer_build", "Version of the service.", registry=registry)
        self._stages = [stages.labels(stage) for stage in STAGES]
        for outcome in STREAM_OUTCOMES:
            self._stream_frames.labels(outcome)
        for code in codes:
            self._rejected.labels(code)

    def describe(self, version: str, models: Iterable[tuple[str, str, str]], capacity: int) -> None:
        """Publish what runs: the service's version, each model's name, version and digest, and its room.

        capacity: requests that may be admitted at a time.
        """
        self._build.info({"version": version, "python": platform.python_version()})
        self._capacity.set(capacity)
        for name, model_version, digest in models:
            self._model.labels(name, model_version, digest).set(1)
            self._uncertain.labels(name)
            for emotion in EMOTIONS:
                self._emotions.labels(emotion, name)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """One HTTP request has ended."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    def analysis(self, analysis: Analysis, queue_ms: float) -> None:
        """One image has been analyzed."""
        timings = analysis.timings
        values = (queue_ms, timings.decode, timings.detect, timings.crop, timings.classify)
        for stage, milliseconds in zip(self._stages, values, strict=True):
            stage.observe(milliseconds / 1000)
        self._faces.observe(len(analysis.faces))
        for face in analysis.faces:
            self._face(face, analysis.model)

    def _face(self, analyzed: AnalyzedFace, model: str) -> None:
        box = analyzed.face.box
        self._emotions.labels(analyzed.dominant_emotion, model).inc()
        self._uncertain.labels(model).inc(analyzed.uncertain)
        self._entropy.observe(entropy_ratio(analyzed.probabilities))
        self._face_size.observe(math.sqrt(box.width * box.height))

    def rejected(self, code: str) -> None:
        """One request, or one image of a batch, got an error."""
        self._rejected.labels(code).inc()

    def dropped(self) -> None:
        """One call was dropped before a worker began it."""
        self._dropped.inc()

    def batch(self, images: int) -> None:
        """One batch request with so many images."""
        self._batch.observe(images)

    def stream_frame(self, outcome: str) -> None:
        """One frame of a stream was answered, failed, or made room for a newer one; see STREAM_OUTCOMES."""
        self._stream_frames.labels(outcome).inc()

    def render(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)


def entropy_ratio(probabilities: Sequence[float]) -> float:
    """Shannon entropy over the largest that so many probabilities can have: 0 to 1."""
    entropy = -sum(p * math.log(p) for p in probabilities if p > 0)
    return entropy / math.log(len(probabilities))
