"""Runs an analysis for a request: on a worker, within the deadline, and only while somebody waits."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

from fastapi import Request

from service.api.answers import detection, server_timing
from service.api.deps import (
    Runtime,
    connected_of,
    deadline_of,
    loss_of,
    metrics_of,
    query_of,
    runtime_of,
    settings_of,
)
from service.api.ending import Ending
from service.api.schemas import Detection
from service.api.uploads import Body, read_body
from service.runtime.engine import OverloadedError
from service.runtime.job import Finished, UnwantedError, always
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.vision.draw import PictureFormat
from service.vision.pipeline import AnalysisOptions
from service.vision.types import Analysis

T = TypeVar("T")


class ClientGoneError(Exception):
    """The client hung up; nobody is left to answer."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """An annotated picture, and what its headers tell."""

    data: bytes
    faces: int
    server_timing: str


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What a request asks for and what it is answered with; as itself it takes its turns in the engine."""

    settings: Settings
    runtime: Runtime
    metrics: Metrics
    options: AnalysisOptions
    include_crops: bool
    deadline: float
    connected: Callable[[], bool]

    async def with_body(self, request: Request, work: Callable[[Body], Awaitable[T]]) -> T:
        """What `work` makes of the request's body, with a place in the engine while the client is there.

        Raises ClientGoneError, ExpiredError, BodyTooLargeError. A service that is full says so before it
        reads, or while it does when memory runs short: OverloadedError.
        """
        engine, intake = self.runtime.engine, self.runtime.intake
        engine.check(self.deadline)
        with intake.upload() as upload:
            with Ending(self.deadline) as ending:
                upload.evict = lambda: ending.by(OverloadedError(engine.retry_after))
                body = [await read_body(request, self.settings.max_body_bytes, upload.grow)]
            intake.complete(upload)
            with engine.admit(self.deadline), while_connected(request):
                return await work(body.pop())  # kept here, it would be held beside its images

    async def run(self, call: Callable[[], T]) -> Finished[T]:
        """Make a call on a worker; raises ExpiredError when it is not done in time.

        Where the client has hung up, this waits for its end by `while_connected`.
        """
        try:
            return await on_a_worker(self.runtime, call, self.deadline, owner=self, wanted=self.connected)
        except UnwantedError:
            with Ending(self.deadline):
                await asyncio.Event().wait()
            raise

    async def detect(self, image: Callable[[], bytes]) -> Detection:
        """Analyze the image that `image` unpacks, both on a worker."""
        started = monotonic()
        finished = await self.run(lambda: self.runtime.pipeline.analyze(image(), self.options))
        self._observe(finished.value, finished.queue_ms)
        return self._answer(finished.value, finished.queue_ms, started)

    async def draw(self, image: Callable[[], bytes], format: PictureFormat) -> Drawn:  # noqa: A002
        """The same, drawn on the picture; decoding, drawing and encoding are the worker's too."""
        started = monotonic()
        finished = await self.run(lambda: self.runtime.pipeline.draw(image(), self.options, format))
        picture = finished.value
        self._observe(picture.analysis, finished.queue_ms)
        answer = self._answer(picture.analysis, finished.queue_ms, started)
        return Drawn(picture.data, len(answer.faces), server_timing(answer.timings_ms, picture.draw_ms))

    def _observe(self, analysis: Analysis, queue_ms: float) -> None:
        self.runtime.tracing.analyzed(analysis)
        # In the event loop's next round: by then the answer is on its way.
        asyncio.get_running_loop().call_soon(self.metrics.analysis, analysis, queue_ms)

    def _answer(self, analysis: Analysis, queue_ms: float, started: float) -> Detection:
        entry = self.runtime.store.manifest.emotion[analysis.model]
        total_ms = (monotonic() - started) * 1000
        return detection(
            analysis, entry, queue_ms=queue_ms, total_ms=total_ms, include_crops=self.include_crops
        )


def task_of(request: Request) -> Task:
    """What query and headers ask for; raises what `query_of` and `deadline_of` do, and UnknownModelError."""
    query, deadline = query_of(request), deadline_of(request)
    runtime, options = runtime_of(request), query.options
    runtime.pipeline.classifier(options.model)  # an unknown model is told before the body is read
    return Task(
        settings_of(request),
        runtime,
        metrics_of(request),
        options,
        query.include_crops,
        deadline,
        connected_of(request),
    )


async def on_a_worker(
    runtime: Runtime,
    call: Callable[[], T],
    deadline: float,
    owner: Hashable | None = None,
    wanted: Callable[[], bool] = always,
) -> Finished[T]:
    """See `Engine.run`."""
    with runtime.tracing.queue() as taken:

        def begin() -> T:
            taken()
            return call()

        return await runtime.engine.run(begin, deadline, owner, wanted)


@contextmanager
def while_connected(request: Request) -> Iterator[None]:
    """Ends the block with ClientGoneError when the client hangs up; the body must have been read."""
    with Ending() as ending:
        loss = loss_of(request)

        def end() -> None:
            ending.by(ClientGoneError())

        leave = loss.calls(end) if loss else _listen(request, end)
        try:
            yield
        finally:
            leave()


def _listen(request: Request, end: Callable[[], None]) -> Callable[[], object]:
    """The same of a server that is not ours: once the body was read, a disconnect is all that can arrive."""
    listening = asyncio.ensure_future(request.receive())
    listening.add_done_callback(lambda _: end())
    return listening.cancel
