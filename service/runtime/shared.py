"""Calls that several threads make between them."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

T = TypeVar("T")


def _never() -> bool:
    return False


class SharedCalls(Generic[T]):
    """Each call is made once, by whichever thread comes first; once one fails, no further one begins."""

    def __init__(self, calls: Sequence[Callable[[], T]]) -> None:
        self._futures: list[Future[T]] = [Future() for _ in calls]
        self._waiting = deque(zip(calls, self._futures, strict=True))

    def make(self, until: Callable[[], bool] = _never) -> None:
        """Make calls in this thread until none waits, or `until` is true."""
        while not until():
            try:
                call, future = self._waiting.popleft()
            except IndexError:
                return
            try:
                future.set_result(call())
            except BaseException as error:  # for the thread that wants the results
                future.set_exception(error)
                # The error's traceback holds this frame: a circle that would keep the call's image.
                del call, future
                self._give_up(error)

    def results(self) -> list[T]:
        """What the calls returned, in order, or the exception of one; once, after this thread's `make`."""
        wait(self._futures)
        try:
            return list(map(Future.result, self._futures))  # a loop's frame, too, would hold a future
        finally:
            self._futures.clear()

    def _give_up(self, error: BaseException) -> None:
        while True:
            try:
                self._waiting.popleft()[1].set_exception(error)
            except IndexError:
                return
