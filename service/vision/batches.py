"""Dividing rows among runs of a graph."""

from collections.abc import Callable
from functools import partial
from math import ceil
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from service.vision.types import Helpers

S = TypeVar("S", bound=np.generic)
T = TypeVar("T")


def in_batches(run: Callable[[NDArray[S]], T], rows: NDArray[S], most: int, helpers: Helpers) -> list[T]:
    """What `run` makes of rows (N, ...), at most `most` at a time, or of none.

    Where somebody is idle, at least two runs of several rows: shared, they are done sooner than one.
    """
    least = min(len(rows), 2) if helpers.idle else 1
    return helpers.together([partial(run, some) for some in batches(rows, most, least)])


def batches(rows: NDArray[S], most: int, least: int = 1) -> list[NDArray[S]]:
    """Rows (N, ...) in as few parts as hold at most `most` each, none much smaller than the others.

    least: no fewer parts than this.
    """
    return np.array_split(rows, max(ceil(len(rows) / most), least, 1))
