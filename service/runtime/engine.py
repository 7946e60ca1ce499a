"""The CPU thread pool that all decoding and inference runs in, and how much may wait for it."""

import asyncio
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from threading import Lock
from time import monotonic
from typing import Any, TypeVar

from service.runtime.drain import DrainRate
from service.runtime.job import Finished, Job, always
from service.runtime.shared import SharedCalls
from service.runtime.turns import Turns

T = TypeVar("T")


class OverloadedError(Exception):
    """No place is left, or none that would come to its turn in time.

    retry_after: whole seconds until what waits has drained.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__("the service has as many requests as it can answer in time")
        self.retry_after = retry_after


class ClosedError(Exception):
    """The engine takes no more work: it is draining or closed."""

    def __init__(self) -> None:
        super().__init__("the service is shutting down")


class Engine:
    """Runs calls on worker threads, and admits no more requests than it can answer.

    Used from one event loop; only the calls themselves leave it. workers: threads; queue_size: requests
    admitted beyond those that the workers can hold; on_drop: told of each call that was dropped unmade.
    """

    def __init__(self, workers: int, queue_size: int, on_drop: Callable[[], None] = lambda: None) -> None:
        self.workers, self.queue_size = workers, queue_size
        self.inflight = 0
        self._on_drop = on_drop
        self._turns: Turns[Job[Any]] = Turns()
        self.drain_rate = DrainRate(workers)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="fer-worker")
        self._busy, self._busy_lock = 0, Lock()
        self._nothing_in_flight = asyncio.Event()
        self._nothing_in_flight.set()
        self._open, self._closed = True, False

    @property
    def accepting(self) -> bool:
        """Whether the service wants new requests."""
        return self._open

    @property
    def capacity(self) -> int:
        """Requests that may be admitted at a time."""
        return self.workers + self.queue_size

    @property
    def queued(self) -> int:
        """Calls that wait for a worker."""
        return len(self._turns)

    @property
    def retry_after(self) -> int:
        """Whole seconds in which the workers, at their recent speed, get through what is here now."""
        calls = max(self.inflight, self.queued + self.workers)
        return max(1, math.ceil(calls * self.drain_rate.seconds_per_call))

    def check(self, deadline: float = math.inf) -> None:
        """Raise what `admit` would raise now; for before a body is read."""
        if self._closed:
            raise ClosedError
        if self.inflight < self.workers:
            return
        full = self.inflight >= self.capacity
        # Turns are fair: of each request that is here, one call goes first.
        wait = (self.inflight + 1) * self.drain_rate.seconds_per_call
        if full or monotonic() + wait > deadline:
            raise OverloadedError(self.retry_after)

    @contextmanager
    def admit(self, deadline: float = math.inf) -> Iterator[None]:
        """Count one request in for as long as it lasts.

        Raises ClosedError when draining, and OverloadedError when the queue is full, or so long that, at the
        recent speed of the workers, the request would not be answered by its deadline (see `run`).
        """
        self.check(deadline)
        self.inflight += 1
        self._nothing_in_flight.clear()
        try:
            yield
        finally:
            self.inflight -= 1
            if not self.inflight:
                self._nothing_in_flight.set()

    async def run(
        self,
        call: Callable[[], T],
        deadline: float,
        owner: Hashable | None = None,
        wanted: Callable[[], bool] = always,
    ) -> Finished[T]:
        """Make the call on a worker. deadline: on the clock of `time.monotonic`.

        owner: whose turn it is that the call waits for, where a request makes several; see `Turns`.
        wanted: asked by the worker before it begins; where it is false, this raises UnwantedError instead.

        The call's own exception comes back to this caller only; ExpiredError when the deadline passes. When
        that, or this is cancelled, before a worker begins, the call is never made; later, its next
        `deadline.check` ends it.
        """
        job = Job(call, deadline, wanted)
        owner = job if owner is None else owner
        self._turns.put(owner, job)
        try:
            self._pool.submit(self._take_turn)
        except RuntimeError:  # no thread is left to make it
            self._turns.drop(owner, job)
            raise ClosedError from None
        timer = asyncio.get_running_loop().call_later(deadline - monotonic(), job.expire)
        try:
            await job.ended
            return job.result()
        except asyncio.CancelledError:
            job.abandon()
            raise
        finally:
            timer.cancel()
            if not job.begun:
                self._turns.drop(owner, job)
                self._on_drop()

    def _take_turn(self) -> None:
        """In a worker: make the next call, if it was not dropped."""
        turn = self._turns.take()
        if turn is None:
            return
        owner, job = turn
        started = monotonic()
        with self._at_work():
            job.make()
        self._turns.done(owner)
        if job.begun:
            self.drain_rate.ended(started, monotonic(), more_wait=self.queued > 0)
        # Last, since the event loop has to wait while this thread holds the interpreter lock.
        job.end()

    def together(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """Make the parts of a call, from the worker that makes it, with workers that have nothing else to do.

        The results come in order; the first exception ends what has not begun. Where all workers are busy,
        nothing is different from a loop.
        """
        helpers = min(len(calls) - 1, self.idle)
        if helpers <= 0:
            return [call() for call in calls]
        shared = SharedCalls(calls)
        for _ in range(helpers):
            # The parts end by the deadline of the whole.
            self._pool.submit(copy_context().run, self._help, shared)
        shared.make()
        return shared.results()

    @property
    def idle(self) -> int:
        """How many workers have nothing to do, and nothing that waits for them."""
        return 0 if self._closed else self.workers - self._busy - self.queued

    def _help(self, shared: SharedCalls[Any]) -> None:
        with self._at_work():
            shared.make(until=lambda: self.queued > 0)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        with self._busy_lock:
            self._busy += 1
        try:
            yield
        finally:
            with self._busy_lock:
                self._busy -= 1

    def stop_accepting(self) -> None:
        """From now on `accepting` is false. What has begun to arrive is still admitted, until `drain`."""
        self._open = False

    async def drain(self, grace: float) -> bool:
        """Stop admitting and wait up to `grace` seconds for what is in flight; tells whether all finished."""
        self.stop_accepting()
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._nothing_in_flight.wait()
        return not self.inflight

    def close(self, *, wait: bool = True) -> None:
        """End the workers after the call that each is making, and wait for that; drop what waits."""
        self.stop_accepting()
        self._closed = True
        for job in self._turns.clear():
            job.cancel()
        self._pool.shutdown(wait=wait)
