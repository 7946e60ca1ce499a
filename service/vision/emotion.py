"""The emotion classifier around its graph."""

import numpy as np

from service.vision.types import EMOTIONS, Float32Array, Session, UInt8Array

BATCH = 64  # crops in one run: memory does not grow with the crowd, and a caller can give up in between


class EmotionClassifier:
    """A ShuffleNet V2 graph that carries normalisation, softmax and calibration itself.

    uncertain_below: where the largest probability is under it, the answer counts as uncertain.
    """

    def __init__(self, session: Session, uncertain_below: float) -> None:
        self._session = session
        self.uncertain_below = uncertain_below

    def classify(self, crops: UInt8Array) -> Float32Array:
        """(N, 1, 48, 48) uint8 -> calibrated probabilities (N, 7) float32, in EMOTIONS order."""
        probabilities = np.empty((len(crops), len(EMOTIONS)), np.float32)
        for start in range(0, len(crops), BATCH):
            batch = slice(start, start + BATCH)
            (probabilities[batch],) = self._session.run({"crops": crops[batch]})
        return probabilities
