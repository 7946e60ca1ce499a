"""Calls that several threads make: each once, in order, and none after a failure."""

from functools import partial
from threading import Barrier, Thread
from weakref import ref

import pytest

from service.runtime.shared import SharedCalls


def test_results_come_in_order_whoever_made_the_calls() -> None:
    # Each waits for another one, so that no thread can make all of them.
    both = Barrier(2, timeout=30)

    def call(index: int) -> int:
        both.wait()
        return index

    shared = SharedCalls([lambda i=i: call(i) for i in range(6)])  # type: ignore[misc]
    helper = Thread(target=shared.make)
    helper.start()
    shared.make()
    assert shared.results() == list(range(6))
    helper.join()


def test_after_a_failure_no_call_begins() -> None:
    made = []

    def fail() -> None:
        raise ValueError("no")

    shared = SharedCalls([lambda: made.append(0), fail, lambda: made.append(2)])
    shared.make()
    with pytest.raises(ValueError, match="no"):
        shared.results()
    assert made == [0]


def test_what_failed_calls_held_is_freed_once_the_error_is_told() -> None:
    """Pixels, which a circle of references would keep until the next full collection."""

    class Image:
        pass

    image = Image()
    held = ref(image)

    def fail(image: Image) -> None:
        raise ValueError(f"cannot read {image}")

    shared = SharedCalls([partial(fail, image), partial(fail, image), partial(fail, image)])
    shared.make()
    with pytest.raises(ValueError, match="cannot read"):
        shared.results()
    del shared, image
    assert held() is None


def test_a_thread_that_is_wanted_elsewhere_makes_no_further_call() -> None:
    made: list[int] = []
    shared = SharedCalls([lambda i=i: made.append(i) for i in range(3)])  # type: ignore[misc]
    shared.make(until=lambda: len(made) == 2)
    assert made == [0, 1]
    shared.make()
    assert shared.results() == [None] * 3
    assert made == [0, 1, 2]
