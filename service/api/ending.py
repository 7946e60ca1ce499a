"""Ends what a request does before it is done."""

import asyncio
import math
from time import monotonic
from types import TracebackType

from service.runtime.deadline import ExpiredError


class Ending:
    """A block of the current task that others may end, at what it waits for, with an error of theirs.

    By a cancellation, as `asyncio.timeout` does it: a task of its own for what is waited for would take the
    event loop more rounds, in each of which it may have to wait for the interpreter lock. When the deadline
    passes, on the clock of `time.monotonic`, the block ends with ExpiredError.
    """

    def __init__(self, deadline: float = math.inf) -> None:
        self._deadline = deadline
        self._error: Exception | None = None
        self._left = False

    def __enter__(self) -> "Ending":
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._timer: asyncio.TimerHandle | None = None
        if self._deadline < math.inf:
            left = self._deadline - monotonic()
            self._timer = asyncio.get_running_loop().call_later(left, self._expire)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        self._left = True
        if self._timer is not None:
            self._timer.cancel()
        error, self._error = self._error, None
        if error is None:
            return
        self._task.uncancel()
        if kind is not asyncio.CancelledError:
            return  # a block inside of this one was ended, too
        try:
            raise error from None
        finally:
            del error  # its traceback holds this frame: a circle that would keep the request's body

    def by(self, error: Exception) -> None:
        """End the block with this error, unless something has ended it."""
        if self._left or self._error:
            return
        if asyncio.current_task() is self._task:
            try:
                raise error
            finally:
                del error  # as above
        self._error = error
        self._task.cancel()

    def _expire(self) -> None:
        self.by(ExpiredError())
