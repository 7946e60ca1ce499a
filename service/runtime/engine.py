"""The CPU thread pool that all decoding and inference runs in, and how much may wait for it."""

import asyncio
import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Any, Generic, TypeVar

from service.runtime.deadline import Deadline, ExpiredError, bounded_by

T = TypeVar("T")


class OverloadedError(Exception):
    """As many requests as may wait are waiting. retry_after: whole seconds until they have drained."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("the service has as many requests as it can queue")
        self.retry_after = retry_after


class ClosedError(Exception):
    """The engine takes no more work: it is draining or closed."""

    def __init__(self) -> None:
        super().__init__("the service is shutting down")


@dataclass(frozen=True, slots=True)
class Finished(Generic[T]):
    """What a call returned, how long it waited for a worker and how long it ran."""

    value: T
    queue_ms: float
    run_ms: float


class _Job(Generic[T]):
    """A call that is made once, unless it expired or was dropped before its turn."""

    def __init__(self, call: Callable[[], T], deadline: float) -> None:
        self._call: Callable[[], T] | None = call
        self.deadline = Deadline(deadline)
        self._submitted = monotonic()

    def __call__(self) -> Finished[T]:
        call, started = self._call, monotonic()
        self.drop()
        if call is None or self.deadline.seconds_left <= 0:
            raise ExpiredError
        with bounded_by(self.deadline):
            value = call()
        return Finished(value, (started - self._submitted) * 1000, (monotonic() - started) * 1000)

    def drop(self) -> None:
        """Let go of the call, and of the image in it, while the pool still holds the job."""
        self._call = None


class Engine:
    """Runs calls on worker threads, and admits no more requests than it can queue.

    Used from one event loop; only the calls themselves leave it. workers: threads; queue_size: requests
    admitted beyond those that the workers can hold.
    """

    def __init__(self, workers: int, queue_size: int) -> None:
        self.workers, self.queue_size = workers, queue_size
        self.inflight = 0
        self._jobs, self._jobs_lock = 0, Lock()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="fer-worker")
        self._idle = asyncio.Event()
        self._idle.set()
        self._open = True
        self._mean_ms = 50.0

    @property
    def accepting(self) -> bool:
        """Whether new requests are admitted at all."""
        return self._open

    @property
    def capacity(self) -> int:
        """Requests that may be admitted at a time."""
        return self.workers + self.queue_size

    @property
    def queued(self) -> int:
        """Calls that wait for a worker."""
        return max(0, self._jobs - self.workers)

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Count one request in for as long as it lasts.

        Raises OverloadedError when the queue is full and ClosedError when draining.
        """
        if not self._open:
            raise ClosedError
        if self.inflight >= self.capacity:
            raise OverloadedError(self._retry_after())
        self.inflight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.inflight -= 1
            if not self.inflight:
                self._idle.set()

    async def run(self, call: Callable[[], T], deadline: float) -> Finished[T]:
        """Make the call on a worker. deadline: on the clock of `time.monotonic`.

        The call's own exception comes back to this caller only. When this is cancelled, or the deadline
        passes, before a worker begins, the call is never made; later, its next `deadline.check` ends it.
        """
        job = _Job(call, deadline)
        with self._jobs_lock:
            self._jobs += 1
        future = self._pool.submit(job)
        future.add_done_callback(lambda done: self._job_ended(done, job))
        try:
            finished = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            job.deadline.abandon()
            raise
        self._mean_ms += 0.1 * (finished.run_ms - self._mean_ms)
        return finished

    def _job_ended(self, done: "Future[Any]", job: _Job[Any]) -> None:
        with self._jobs_lock:
            self._jobs -= 1
        if done.cancelled():
            job.drop()

    def stop_admitting(self) -> None:
        """From now on `admit` raises ClosedError; what was admitted goes on."""
        self._open = False

    async def drain(self, grace: float) -> bool:
        """Stop admitting and wait up to `grace` seconds for what is in flight; tells whether all finished."""
        self.stop_admitting()
        try:
            async with asyncio.timeout(grace):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """End the workers after the call that each is making; drop what waits."""
        self.stop_admitting()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _retry_after(self) -> int:
        """Seconds in which the workers, at their recent speed, get through what is admitted now."""
        return max(1, math.ceil(self.inflight * self._mean_ms / 1000 / self.workers))
