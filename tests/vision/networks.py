"""Networks that say what a test needs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.vision.types import Session


class Counting:
    """A session that remembers how many images each run was given."""

    def __init__(self, session: Session) -> None:
        self.session, self.counts = session, list[int]()

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        self.counts.append(len(next(iter(inputs.values()))))
        return self.session.run(inputs)


class SeesFacesEverywhere:
    """A P-Net that is sure of every window and moves none."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        _, height, width, _ = inputs["image"].shape
        rows, columns = ((side - 1) // 2 - 4 for side in (height, width))
        response = np.full((1, rows, columns, 5), 7, np.uint8)
        return [
            np.ones((1, rows, columns), np.float32),
            np.zeros((1, rows, columns, 4), np.float32),
            response,
        ]


class LetsPass:
    """A filter that finds all candidates equally likely."""

    def __init__(self, promise: float = 1.0) -> None:
        self.promise = promise

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        return [np.full(len(inputs["surroundings"]), self.promise, np.float32)]


class RefinesNothing:
    """An R-Net that passes all candidates as they are."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        count = len(inputs["crops"])
        return [np.ones(count, np.float32), np.zeros((count, 4), np.float32)]


class Says:
    """An O-Net that in each run is as sure of its crops as the next of the scores: of all alike, or of each.

    It moves them to the right, by so much of their side.
    """

    def __init__(self, *scores: float | Sequence[float], moves: float = 0) -> None:
        self.scores, self.offsets = list(scores), np.array([moves, 0, moves, 0], np.float32)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        count = len(inputs["crops"])
        score = np.full(count, self.scores.pop(0), np.float32)
        return [score, np.tile(self.offsets, (count, 1)), np.zeros((count, 5, 2), np.float32), score]
