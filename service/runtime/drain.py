"""How fast the workers get through what waits for them."""

from threading import Lock

# Of the newest measurement; the last fifty or so count.
WEIGHT = 0.05


class DrainRate:
    """Measured at each call that ends, in any thread. seconds_per_call: 0 until the first has.

    While calls wait, the time from one end to the next is the rate itself, whatever the workers share: cores,
    a lock, another process. With nothing waiting, a worker's own time is all there is to go by.
    """

    def __init__(self, workers: int) -> None:
        self.seconds_per_call = 0.0
        self._workers = workers
        self._last_end: float | None = None
        self._lock = Lock()

    def ended(self, began: float, now: float, more_wait: bool) -> None:
        """A call has ended. began, now: on one clock; more_wait: whether others wait for a worker."""
        with self._lock:
            seconds = self._measured(now - began, now)
            if not self.seconds_per_call:
                self.seconds_per_call = seconds
            self.seconds_per_call += WEIGHT * (seconds - self.seconds_per_call)
            self._last_end = now if more_wait else None

    def _measured(self, ran: float, now: float) -> float:
        if self._last_end is None:
            return ran / self._workers
        # Where it is longer than the call itself, the worker had nothing to do in between.
        return min(now - self._last_end, ran)
