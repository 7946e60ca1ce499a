"""Tables: named tuples of arrays that have a row each for the same things."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Table = TypeVar("Table", bound=tuple[NDArray[Any], ...])


def joined(tables: Sequence[Table]) -> Table:
    """One table of the rows of all."""
    make: Any = type(tables[0])
    table: Table = make(*(np.concatenate(arrays) for arrays in zip(*tables, strict=True)))
    return table


def rows_at(table: Table, indices: NDArray[Any] | Sequence[int]) -> Table:
    """A table of some of the rows, in this order."""
    make: Any = type(table)
    chosen: Table = make(*(array[indices] for array in table))
    return chosen
