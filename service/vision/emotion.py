"""The emotion classifier around its graph."""

from copy import copy
from typing import Self

import numpy as np

from service.vision.batches import run_in_batches
from service.vision.types import EMOTIONS, NOBODY, Float32Array, Helpers, Session, UInt8Array

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
        self._helpers: Helpers = NOBODY

    def helped_by(self, helpers: Helpers) -> Self:
        """The same; `helpers` make runs of the graph."""
        same = copy(self)
        same._helpers = helpers
        return same

    def classify(self, crops: UInt8Array) -> Float32Array:
        """(N, 1, 48, 48) uint8 -> calibrated probabilities (N, 7) float32, in EMOTIONS order.

        Raises ValueError where the graph answers something that is no number.
        """
        if not len(crops):
            return np.empty((0, len(EMOTIONS)), np.float32)
        probabilities = run_in_batches(self._session, crops, BATCH, self._helpers)[0]
        if np.isnan(probabilities).any():
            raise ValueError("the emotion graph answers something that is no number")
        return probabilities
