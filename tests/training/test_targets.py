import numpy as np
import torch

from training.targets import targets

from .helpers import faces


def test_targets_are_the_label_and_beside_it_the_votes() -> None:
    some = faces(2)  # angry, disgust
    some.votes[0] = 0
    some.votes[0, [4, 0]] = 5, 5  # half angry, half neutral
    found = targets(some, smoothing=0.07, votes=True)
    np.testing.assert_allclose(found[0], [0.94, *[0.01] * 6, 0.5, 0, 0, 0, 0, 0, 0.5], atol=1e-6)
    np.testing.assert_allclose(found[1], [0.01, 0.94, *[0.01] * 5, *[0] * 7], atol=1e-6)  # no votes
    assert torch.equal(targets(some, smoothing=0.07, votes=False), found[:, :7])
