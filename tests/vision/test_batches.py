"""How crops are divided among runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.vision.batches import run_in_batches
from service.vision.types import Nobody


@pytest.mark.parametrize(
    ("rows", "idle", "parts"),
    [
        *[(0, 0, [0]), (3, 0, [3]), (4, 0, [4]), (5, 0, [3, 2]), (10, 0, [4, 3, 3])],
        *[(0, 1, [0]), (1, 1, [1]), (3, 1, [2, 1]), (4, 5, [2, 2]), (5, 5, [3, 2])],
    ],
)
def test_batches_are_full_or_about_equal_and_shared(rows: int, idle: int, parts: list[int]) -> None:
    class Echo:
        def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
            runs.append(len(inputs["crops"]))
            return [inputs["crops"]]

    runs: list[int] = []
    helpers = Nobody()
    helpers.idle = idle
    crops = np.arange(rows, dtype=np.uint8)
    (answers,) = run_in_batches(Echo(), crops, 4, helpers)
    assert runs == parts
    np.testing.assert_array_equal(answers, crops)
