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
    """What `run` makes of rows (N, ...): one result for each of as few parts as hold at most `most` rows.

    Parts are about equal. Several rows are at least two parts where somebody is idle: shared, they are done
    sooner than one. No rows are one empty part.
    """
    least = 2 if helpers.idle and len(rows) > 1 else 1
    parts = np.array_split(rows, max(ceil(len(rows) / most), least))
    return helpers.together([partial(run, some) for some in parts])
