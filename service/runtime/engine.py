"""The CPU thread pool that all decoding and inference runs in, and how much may wait for it."""

import asyncio
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Any, Generic, TypeVar

from service.runtime.deadline import Deadline, ExpiredError, bounded_by
from service.runtime.drain import DrainRate
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


class UnwantedError(Exception):
    """Nobody wants the call's result any more, so it was not made."""


def always() -> bool:
    """What is asked where a call's result is wanted in any case."""
    return True


@dataclass(frozen=True, slots=True)
class Finished(Generic[T]):
    """What a call returned, and how long it waited for a worker."""

    value: T
    queue_ms: float


class _Job(Generic[T]):
    """A call that is made once, unless it expired, was dropped or is unwanted when its turn comes.

    ended: on the event loop of who made this, once `result` can be asked or nobody will make the call.
    """

    def __init__(self, call: Callable[[], T], deadline: float, wanted: Callable[[], bool]) -> None:
        self.call, self.wanted = call, wanted
        self.deadline = Deadline(deadline)
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.begun = False
        self._submitted = monotonic()
        # What is traced and logged on the worker belongs to the request.
        self._context = copy_context()
        self._finished: Finished[T] | None = None
        self._error: BaseException | None = None

    def make(self) -> None:
        """Make the call in this thread; its result or exception is what `result` tells."""
        if self.ended.done():
            return
        try:
            self._finished = self._finish()
        except BaseException as error:  # whatever it is, the caller must not wait for ever
            self._error = error

    def end(self) -> None:
        """Tell the caller, from any thread, that the call was made."""
        self._on_the_loop(self._settle)

    def expire(self) -> None:
        """Tell the caller, on the event loop, that the deadline has passed."""
        if not self.ended.done():
            self.ended.set_result(None)

    def cancel(self) -> None:
        """Tell the caller, from any thread, that nobody will make the call."""
        self._on_the_loop(self.ended.cancel)

    def result(self) -> Finished[T]:
        """What the call returned, or its exception; once it was made or expired, and only once."""
        error, self._error = self._error, None
        if error is None and self._finished is not None:
            return self._finished
        error = error or ExpiredError()  # also where it was made since, and forgotten
        try:
            raise error
        finally:
            # Its traceback holds this frame: a circle that would keep the call's arguments, an image.
            del error

    def forget(self) -> None:
        """Nobody asks for the result; an error's traceback would keep this in a circle, with the image."""
        self._finished = self._error = None

    def _settle(self) -> None:
        if self.ended.done():
            self.forget()
        else:
            self.ended.set_result(None)

    def _on_the_loop(self, call: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # it is closed: nobody waits
            self._loop.call_soon_threadsafe(call)

    def _finish(self) -> Finished[T]:
        queue_ms = (monotonic() - self._submitted) * 1000
        if self.deadline.seconds_left <= 0:
            raise ExpiredError
        if not self.wanted():
            raise UnwantedError
        self.begun = True
        return Finished(self._context.run(self._call_in_time), queue_ms)

    def _call_in_time(self) -> T:
        with bounded_by(self.deadline):
            return self.call()


class Engine:
    """Runs calls on worker threads, and admits no more requests than it can answer.

    Used from one event loop; only the calls themselves leave it. workers: threads; queue_size: requests
    admitted beyond those that the workers can hold; on_drop: told of each call that was dropped unmade.
    """

    def __init__(self, workers: int, queue_size: int, on_drop: Callable[[], None] = lambda: None) -> None:
        self.workers, self.queue_size = workers, queue_size
        self.inflight = 0
        self._on_drop = on_drop
        self._turns: Turns[_Job[Any]] = Turns()
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
        job = _Job(call, deadline, wanted)
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
            job.deadline.abandon()
            job.forget()
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
        try:
            async with asyncio.timeout(grace):
                await self._nothing_in_flight.wait()
        except TimeoutError:
            return False
        return True

    def close(self, *, wait: bool = True) -> None:
        """End the workers after the call that each is making, and wait for that; drop what waits."""
        self.stop_accepting()
        self._closed = True
        for job in self._turns.clear():
            job.cancel()
        self._pool.shutdown(wait=wait, cancel_futures=True)
