"""The emotion classifier around its graph."""

from copy import copy
from functools import partial
from typing import Self

import numpy as np

from service.vision.batches import batches
from service.vision.types import EMOTIONS, Float32Array, Session, Together, UInt8Array, one_by_one

# Crops in one run: memory does not grow with the crowd, a caller can give up in between, and runs can share
# the cores.
BATCH = 4


class EmotionClassifier:
    """A ShuffleNet V2 graph that carries normalisation, softmax and calibration itself.

    uncertain_below: where the largest probability is under it, the answer counts as uncertain.
    """

    def __init__(self, session: Session, uncertain_below: float) -> None:
        self._session = session
        self.uncertain_below = uncertain_below
        self._together: Together = one_by_one

    def helped_by(self, together: Together) -> Self:
        """The same; `together` makes the runs of the graph."""
        same = copy(self)
        same._together = together
        return same

    def classify(self, crops: UInt8Array) -> Float32Array:
        """(N, 1, 48, 48) uint8 -> calibrated probabilities (N, 7) float32, in EMOTIONS order."""
        runs = [partial(self._session.run, {"crops": some}) for some in batches(crops, BATCH)]
        parts = [probabilities for (probabilities,) in self._together(runs)]
        return np.concatenate([np.empty((0, len(EMOTIONS)), np.float32), *parts])
