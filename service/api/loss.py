"""The loss of a client's connection."""

from collections.abc import Callable
from functools import partial


class Loss:
    """Happens once, or never; who works for the client is told of it. Used on the event loop."""

    def __init__(self) -> None:
        self._happened = False
        self._told: list[Callable[[], None]] = []

    def calls(self, end: Callable[[], None]) -> Callable[[], None]:
        """Have `end` called when the connection is lost, at once if it is; returns what takes that back."""
        if self._happened:
            end()
        self._told.append(end)
        return partial(self._told.remove, end)

    def happen(self) -> None:
        """The connection is lost."""
        self._happened = True
        for end in list(self._told):
            end()
