"""The emotion classifier around its graph."""

import numpy as np

from service.vision.types import EMOTIONS, Float32Array, Session, UInt8Array


class EmotionClassifier:
    """A ShuffleNet V2 graph that carries normalisation, softmax and calibration itself.

    uncertain_below: where the largest probability is under it, the answer counts as uncertain.
    """

    def __init__(self, session: Session, uncertain_below: float) -> None:
        self._session = session
        self.uncertain_below = uncertain_below

    def classify(self, crops: UInt8Array) -> Float32Array:
        """(N, 1, 48, 48) uint8 -> calibrated probabilities (N, 7) float32, in EMOTIONS order, in one run."""
        if not len(crops):
            return np.zeros((0, len(EMOTIONS)), np.float32)
        (probabilities,) = self._session.run({"crops": crops})
        return np.asarray(probabilities, dtype=np.float32)
