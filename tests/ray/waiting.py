"""Waiting for what other processes do: the one place of these tests that sleeps."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
# A loaded machine takes minutes for what takes seconds.
PATIENCE_S = 600


def until(what: str, probe: Callable[[], T | None], patience_s: float = PATIENCE_S) -> T:
    """The first result of `probe` that is not None or False; what: named when none comes."""
    give_up = time.monotonic() + patience_s
    while time.monotonic() < give_up:
        result = probe()
        if result:
            return result
        time.sleep(0.2)
    raise AssertionError(f"{what} did not come about in {patience_s} s")
