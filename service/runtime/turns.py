"""What waits for a worker, and whose turn it is."""

from collections import Counter, deque
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """A queue that is fair to its owners, however much one of them puts in. Any thread may use it.

    The owner with the fewest items out goes next; among equals, the one that has waited longest. So whoever
    has one item waits for at most one of each other owner, and a lone owner gets everything at once.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: dict[Hashable, deque[T]] = {}
        self._out: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        with self._lock:
            return sum(map(len, self._waiting.values()))

    def put(self, owner: Hashable, item: T) -> None:
        """Let an item wait for the owner's turn."""
        with self._lock:
            self._waiting.setdefault(owner, deque()).append(item)

    def take(self) -> tuple[Hashable, T] | None:
        """The next item and its owner, None when nothing waits; `done` must be called for it."""
        with self._lock:
            if not self._waiting:
                return None
            owner = min(self._waiting, key=self._out.__getitem__)
            items = self._waiting.pop(owner)
            item = items.popleft()
            if items:
                self._waiting[owner] = items  # behind all others
            self._out[owner] += 1
            return owner, item

    def done(self, owner: Hashable) -> None:
        """One item that the owner had out has been dealt with."""
        with self._lock:
            self._out[owner] -= 1
            if not self._out[owner]:
                del self._out[owner]

    def drop(self, owner: Hashable, item: T) -> None:
        """Forget an item, if it still waits."""
        with self._lock:
            items = self._waiting.get(owner, deque())
            if item in items:
                items.remove(item)
            if not items:
                self._waiting.pop(owner, None)

    def clear(self) -> list[T]:
        """Forget all that waits, and return it."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            return [item for items in waiting.values() for item in items]
