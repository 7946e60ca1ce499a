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
        self.busy, self._check = False, check
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._answers: SimpleQueue[tuple[Any, Exception | None]] = SimpleQueue()
        Thread(target=self._work, name="fer-aside", daemon=True).start()

    def __call__(self, call: Callable[[], Result]) -> Result:
        """What the call returns, or raises."""
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
        self._calls.put(None)

    def _work(self) -> None:
        while call := self._calls.get():
            try:
                self._answers.put((call(), None))
            except Exception as error:  # it is for who asked
                self._answers.put((None, error))
