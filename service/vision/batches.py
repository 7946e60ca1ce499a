"""Dividing crops among runs of a graph."""

from functools import partial
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.vision.types import Helpers, Session, UInt8Array


def run_in_batches(session: Session, crops: UInt8Array, most: int, helpers: Helpers) -> list[NDArray[Any]]:
    """The graph's outputs for crops (N, ...), in as few runs as see at most `most` of them each.

    Runs are about equal. Several crops are at least two runs where somebody is idle: shared, they are done
    sooner than one. No crops are one run of none.
    """
    least = 2 if helpers.idle and len(crops) > 1 else 1
    parts = np.array_split(crops, max(ceil(len(crops) / most), least))
    answers = helpers.together([partial(session.run, {"crops": some}) for some in parts])
    return [np.concatenate(arrays) for arrays in zip(*answers, strict=True)]
