"""Ctrl-C, for the threads that do the work: Python tells the main thread alone."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from types import FrameType

from service.media.errors import ServerError

Handler = Callable[[int, FrameType | None], None]

_CHECK_S = 0.1


class Interruption:
    """A signal handler that raises KeyboardInterrupt, and a wait that ends then.

    No Event: the handler could come while this same thread holds the Event's lock.
    """

    def __init__(self) -> None:
        self._interrupted = self._held = False
        self._terminals = [stream for stream in (1, 2) if os.isatty(stream)]

    def signalled(self, _number: int, _frame: FrameType | None) -> None:
        """For `signal.signal`."""
        again, self._interrupted = self._interrupted, True
        if again or not self._held:
            raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """Around what should be done as a whole: the first interrupt comes after it, another one at once."""
        before, self._held = self._interrupted, True
        try:
            yield
        finally:
            self._held = False
        if self._interrupted and not before:
            raise KeyboardInterrupt

    def hung_up(self, number: int, frame: FrameType | None) -> None:
        """For `signal.signal` of SIGHUP, where the terminal is gone, and whatever is told to it an error."""
        signal.signal(number, signal.SIG_IGN)  # the shell may say so, too, while the outputs are completed
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for terminal in self._terminals:
            os.dup2(nowhere, terminal)
        self.signalled(number, frame)

    def check(self) -> None:
        """Raise ServerError once the run is interrupted."""
        if self._interrupted:
            raise ServerError("interrupted")

    def wait(self, seconds: float) -> None:
        """Wait so long. Raises ServerError once the run is interrupted: nobody waits for the server."""
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            self.check()
            sleep(min(left, _CHECK_S))
