"""Whose word a graph answers by, and is measured by: FER2013's one label of an image, or FER+'s voters."""

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from service.vision.types import EMOTIONS
from training.data import DataError, Faces, ferplus_majority, vote_shares

LabelSet = Literal["fer2013", "ferplus"]
FER2013: LabelSet = "fer2013"
FERPLUS: LabelSet = "ferplus"
# How many called each image something: FER2013's label is one, FER+ asked ten people.
VOTERS = {FER2013: 1, FERPLUS: 10}


def truth(faces: Faces, label_set: LabelSet) -> NDArray[np.int64]:
    """The emotion (N,) that the set calls each face; -1 where FER+ has no majority for one of the seven."""
    return ferplus_majority(faces.votes) if label_set == FERPLUS else faces.labels


def judged(faces: Faces, label_set: LabelSet) -> Faces:
    """The faces that the set calls one of the seven, with that for a label. Raises DataError without any."""
    called = truth(faces, label_set)
    if not (called >= 0).any():
        raise DataError("no image has a majority of FER+ votes: pass --ferplus with fer2013new.csv")
    return replace(faces, labels=called).subset(np.flatnonzero(called >= 0))


def shares(faces: Faces, label_set: LabelSet) -> NDArray[np.float32]:
    """Which share of those who judged each face call it so, (N, 7), of faces as `judged` returns them."""
    if label_set == FERPLUS:
        return vote_shares(faces.votes)
    return np.eye(len(EMOTIONS), dtype=np.float32)[faces.labels]
