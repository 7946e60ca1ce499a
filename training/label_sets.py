"""Whose word a graph answers by, and is measured by: FER2013's one label of an image, or FER+'s voters."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from service.vision.types import EMOTIONS, LabelSet
from training.data import VOTE_OF_EMOTION, DataError, Faces, ferplus_majority, vote_shares

FER2013: LabelSet = "fer2013"
FERPLUS: LabelSet = "ferplus"


def has_votes(faces: Faces) -> bool:
    """Whether anyone's votes came with the faces."""
    return bool(np.isfinite(faces.votes).any())


def truth(faces: Faces, label_set: LabelSet) -> NDArray[np.int64]:
    """The emotion (N,) that the set calls each face; -1 where FER+ has no majority for one of the seven."""
    return ferplus_majority(faces.votes) if label_set == FERPLUS else faces.labels


def judged(faces: Faces, label_set: LabelSet) -> Faces:
    """The faces that the set calls one of the seven, with that for a label. Raises DataError without any."""
    called = truth(faces, label_set)
    if not len(faces):
        raise DataError("there are no images to judge by")
    if not (called >= 0).any():
        raise DataError("no image has a majority of FER+ votes: pass --ferplus with fer2013new.csv")
    return replace(faces, labels=called).subset(np.flatnonzero(called >= 0))


def shares(faces: Faces, label_set: LabelSet) -> NDArray[np.float32]:
    """Of those who call each face one of the seven, the share that call it so: (N, 7), of judged faces."""
    if label_set == FERPLUS:
        return vote_shares(faces.votes)
    return np.eye(len(EMOTIONS), dtype=np.float32)[faces.labels]


def voters(faces: Faces, label_set: LabelSet) -> NDArray[np.int64]:
    """How many (N,) call each face one of the seven: FER2013's label is one word, FER+ asked ten people."""
    if label_set == FERPLUS:
        votes: NDArray[np.int64] = np.nan_to_num(faces.votes[:, VOTE_OF_EMOTION]).sum(axis=1).astype(np.int64)
        return votes
    return np.ones(len(faces), np.int64)
