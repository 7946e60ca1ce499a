"""Dividing rows among runs of a graph."""

from math import ceil
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

S = TypeVar("S", bound=np.generic)


def batches(rows: NDArray[S], most: int) -> list[NDArray[S]]:
    """Rows (N, ...) in as few parts as hold at most `most` each, none much smaller than the others."""
    return np.array_split(rows, ceil(len(rows) / most)) if len(rows) else []
