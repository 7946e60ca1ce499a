"""Calls that may not return for hours, made where they hold nobody up."""

from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

Result = TypeVar("Result")

_CHECK_S = 0.5


class Aside:
    """Makes calls, one at a time, on a thread that the end of the program does not wait for.

    Ctrl-C cannot break into a library that waits for a stalled network. It breaks into the wait for this
    thread instead; `busy` tells then that the call goes on, perhaps for ever, and no other is to be made.
    check: called now and then during a wait, and ends it by raising, as threads are told of no Ctrl-C.
    """

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self.busy, self._closed, self._check = False, False, check
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._answers: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        # It knows the queues alone, so that it ends, too, where whoever has this forgets to close it.
        Thread(target=_work, args=(self._calls, self._answers), name="fer-aside", daemon=True).start()

    def __call__(self, call: Callable[[], Result]) -> Result:
        """What the call returns, or raises. Raises ValueError once this is closed."""
        if self._closed:
            raise ValueError("it is closed, and makes no more calls")
        self.busy = True
        self._calls.put(call)
        while True:
            # Not for ever: a signal that comes just before a wait begins does not end it.
            with suppress(Empty):
                answer, error = self._answers.get(timeout=_CHECK_S)
                break
            self._check()
        self.busy = False
        if error:
            raise error
        return answer  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the thread, as soon as it is free."""
        self._closed = True
        self._calls.put(None)

    __del__ = close


def _work(
    calls: "SimpleQueue[Callable[[], Any] | None]", answers: "SimpleQueue[tuple[Any, BaseException | None]]"
) -> None:
    while call := calls.get():
        try:
            answers.put((call(), None))
        except BaseException as error:  # it is for who asked
            answers.put((None, error))
