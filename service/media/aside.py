"""Calls that may not return for hours, made where they hold nobody up."""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

Result = TypeVar("Result")


class Aside:
    """Makes calls, one at a time, on a thread that the end of the program does not wait for.

    Ctrl-C cannot break into a library that waits for a stalled network. It breaks into the wait for this
    thread instead; `busy` tells then that the call goes on, perhaps for ever, and no other is to be made.
    """

    def __init__(self) -> None:
        self.busy = False
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._answers: SimpleQueue[tuple[Any, Exception | None]] = SimpleQueue()
        Thread(target=self._work, name="fer-aside", daemon=True).start()

    def __call__(self, call: Callable[[], Result]) -> Result:
        """What the call returns, or raises."""
        self.busy = True
        self._calls.put(call)
        answer: Result
        answer, error = self._answers.get()
        self.busy = False
        if error:
            raise error
        return answer

    def close(self) -> None:
        """End the thread, as soon as it is free."""
        self._calls.put(None)

    def _work(self) -> None:
        while call := self._calls.get():
            try:
                self._answers.put((call(), None))
            except Exception as error:  # it is for who asked
                self._answers.put((None, error))
