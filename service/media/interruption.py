"""Ctrl-C, for the threads that do the work: Python tells the main thread alone."""

from time import monotonic, sleep
from types import FrameType
from typing import NoReturn

from service.media.errors import ServerError

_CHECK_S = 0.1


class Interruption:
    """A signal handler that raises KeyboardInterrupt, and a wait that ends then.

    No Event: the handler could come while this same thread holds the Event's lock.
    """

    def __init__(self) -> None:
        self._interrupted = False

    def signalled(self, _number: int, _frame: FrameType | None) -> NoReturn:
        """For `signal.signal`."""
        self._interrupted = True
        raise KeyboardInterrupt

    def wait(self, seconds: float) -> None:
        """Wait so long. Raises ServerError once the run is interrupted: nobody waits for the server."""
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            if self._interrupted:
                raise ServerError("interrupted")
            sleep(min(left, _CHECK_S))
