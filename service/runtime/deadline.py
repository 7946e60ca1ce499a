"""When the call that a worker is making must end: what runs inside it asks here, between its steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf
from time import monotonic


class ExpiredError(Exception):
    """The deadline passed, or nobody waits any more, before the work was done."""

    def __init__(self, message: str = "the request ran past its deadline") -> None:
        super().__init__(message)


class Deadline:
    """A moment on the clock of `time.monotonic`; it comes early when it is abandoned, from any thread."""

    def __init__(self, at: float) -> None:
        self._at = at

    def abandon(self) -> None:
        """Nobody waits any more: from now on it has passed."""
        self._at = -inf

    @property
    def seconds_left(self) -> float:
        """Not positive once it has passed."""
        return self._at - monotonic()


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


@contextmanager
def bounded_by(deadline: Deadline) -> Iterator[None]:
    """Let `seconds_left` and `check` answer for this deadline, in this thread."""
    token = _current.set(deadline)
    try:
        yield
    finally:
        _current.reset(token)


def seconds_left() -> float:
    """Time left to the call that this thread is making; infinite where none is bounded."""
    deadline = _current.get()
    return inf if deadline is None else deadline.seconds_left


def check() -> None:
    """Raise ExpiredError when the call that this thread is making has no time left."""
    if seconds_left() <= 0:
        raise ExpiredError
