"""A call that a worker is to make, and how its caller, on the event loop, learns what came of it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from time import monotonic
from typing import Generic, TypeVar

from service.runtime.deadline import Deadline, ExpiredError, bounded_by

T = TypeVar("T")


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


class Job(Generic[T]):
    """A call that is made once, unless it expired, was dropped or is unwanted when its turn comes.

    ended: on the event loop of who made this, once `result` can be asked or nobody will make the call.
    """

    def __init__(self, call: Callable[[], T], deadline: float, wanted: Callable[[], bool]) -> None:
        self._call, self._wanted = call, wanted
        self._deadline = Deadline(deadline)
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
        if self._finished is not None:
            return self._finished
        # Without an error it expired; if it was made since, that is forgotten.
        error, self._error = self._error or ExpiredError(), None
        try:
            raise error
        finally:
            # Its traceback holds this frame: a circle that would keep the call's arguments, an image.
            del error

    def abandon(self) -> None:
        """Nobody asks for the result: from now on the call ends at its next check, if it was begun."""
        self._deadline.abandon()
        self._forget()

    def _forget(self) -> None:
        # An error's traceback would keep this in a circle, with the image.
        self._finished = self._error = None

    def _settle(self) -> None:
        if self.ended.done():
            self._forget()
        else:
            self.ended.set_result(None)

    def _on_the_loop(self, call: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # it is closed: nobody waits
            self._loop.call_soon_threadsafe(call)

    def _finish(self) -> Finished[T]:
        queue_ms = (monotonic() - self._submitted) * 1000
        if self._deadline.seconds_left <= 0:
            raise ExpiredError
        if not self._wanted():
            raise UnwantedError
        self.begun = True
        return Finished(self._context.run(self._call_in_time), queue_ms)

    def _call_in_time(self) -> T:
        with bounded_by(self._deadline):
            return self._call()
