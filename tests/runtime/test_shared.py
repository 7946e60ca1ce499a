"""Calls that several threads make: each once, in order, and none after a failure."""

from threading import Barrier, Thread

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


def test_a_thread_that_is_wanted_elsewhere_makes_no_further_call() -> None:
    made: list[int] = []
    shared = SharedCalls([lambda i=i: made.append(i) for i in range(3)])  # type: ignore[misc]
    shared.make(until=lambda: len(made) == 2)
    assert made == [0, 1]
    shared.make()
    assert shared.results() == [None] * 3
    assert made == [0, 1, 2]
