from dataclasses import replace

import numpy as np
import pytest

from training.data import DataError, Faces
from training.label_sets import FER2013, FERPLUS, judged, shares, truth, voters

from .helpers import faces

# In the order of training.data.VOTES; angry is the fifth, contempt the eighth.
ANGRY, TIE, CONTEMPT = (
    (0, 0, 0, 3, 6, 0, 0, 1, 0, 0),
    (5, 5, 0, 0, 0, 0, 0, 0, 0, 0),
    (1, 0, 0, 0, 0, 0, 0, 9, 0, 0),
)


def voted() -> Faces:
    """Three faces that FER2013 calls happy, disgust and sad."""
    votes = np.array([ANGRY, TIE, CONTEMPT], np.float32)
    return replace(faces(3), labels=np.array([3, 1, 4]), votes=votes)


def test_fer2013_has_one_word_for_every_face() -> None:
    found = judged(voted(), FER2013)
    assert found.labels.tolist() == [3, 1, 4]
    assert shares(found, FER2013).tolist() == np.eye(7)[[3, 1, 4]].tolist()
    assert voters(found, FER2013).tolist() == [1, 1, 1]


def test_ferplus_speaks_of_faces_with_a_clear_majority() -> None:
    assert truth(voted(), FERPLUS).tolist() == [0, -1, -1]
    found = judged(voted(), FERPLUS)
    assert np.array_equal(found.images, voted().images[:1])
    assert found.labels.tolist() == [0]
    # Six of the nine who named one of the seven.
    assert voters(found, FERPLUS).tolist() == [9]
    assert shares(found, FERPLUS)[0].tolist() == pytest.approx([6 / 9, 0, 0, 0, 3 / 9, 0, 0])


def test_faces_without_votes_are_refused_where_votes_are_asked_for() -> None:
    with pytest.raises(DataError, match="no image has a majority"):
        judged(faces(), FERPLUS)
