"""How much memory the bodies of all requests may take together, and who makes room when it is used up."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Upload:
    """One body in memory. size: its bytes so far; evict: ends its reading."""

    def __init__(self, intake: "Intake") -> None:
        self._intake = intake
        self.size = 0
        self.evict: Callable[[], object] = lambda: None

    def grow(self, count: int) -> None:
        """So many bytes have come; this may evict an upload, this one too."""
        self._intake.take(self, count)


class Intake:
    """Room for so many bytes. Used from one event loop.

    When it is used up, the largest of the bodies that are still being read is given up: small images get
    through while somebody holds many large bodies open. What is read whole stays.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._growing: set[Upload] = set()
        self.held = 0

    @contextmanager
    def upload(self) -> Iterator[Upload]:
        """A body that is held during the block, and may be evicted until it is `complete`."""
        upload = Upload(self)
        self._growing.add(upload)
        try:
            yield upload
        finally:
            self._growing.discard(upload)
            self.held -= upload.size

    def complete(self, upload: Upload) -> None:
        """All of it has come."""
        self._growing.discard(upload)

    def take(self, upload: Upload, count: int) -> None:
        """See `Upload.grow`."""
        upload.size += count
        self.held += count
        while self.held > self._most and self._growing:
            self._give_up(max(self._growing, key=lambda growing: growing.size))

    def _give_up(self, upload: Upload) -> None:
        self._growing.discard(upload)
        self.held -= upload.size
        upload.size = 0
        upload.evict()
