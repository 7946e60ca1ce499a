import math

import numpy as np
import pytest
import torch

from training.config import ConfigError
from training.network import build
from training.presets import to_network
from training.serving import Serving, adjust, prepared

from .helpers import config, faces

# Half of them happy, an eighth disgust.
LABELS = np.array([3, 3, 3, 3, 0, 0, 5, 1])


def test_an_emotion_gains_by_how_rare_it_is() -> None:
    network = build(config(votes=0.0)).eval()
    images = to_network(torch.from_numpy(faces().images)[:, None].float() / 255)
    with torch.no_grad():
        before = network(images)
        gained = adjust(network, LABELS, 0.5)(images) - before
    torch.testing.assert_close(gained[0], gained[-1])
    torch.testing.assert_close(gained[0, [3, 0, 1]], 0.5 * torch.tensor([2, 4, 8]).log())
    # As if it had been met once.
    assert math.isclose(gained[0, 2], gained[0, 1], rel_tol=1e-5)


def test_a_head_that_is_mostly_of_the_votes_answers_as_voters_do() -> None:
    assert [Serving(share).label_set for share in (0, 0.15, 0.5, 0.7, 1)] == ["fer2013"] * 3 + ["ferplus"] * 2


def test_what_was_served_is_recorded() -> None:
    serving = Serving(votes_share=0.1, adjustment=0.4)
    assert Serving.recorded(serving.record() | {"data": "FER2013"}) == serving
    assert Serving.recorded({}) == Serving()


def test_without_votes_or_adjustment_the_labels_head_is_served_as_it_is() -> None:
    network = build(config(votes=0.5)).eval()
    images = to_network(torch.from_numpy(faces().images)[:, None].float() / 255)
    with torch.no_grad():
        expected = network(images)[:, :7]
        torch.testing.assert_close(prepared(network, LABELS, Serving())(images), expected)


@pytest.mark.parametrize("serving", [{"votes_share": 1.5}, {"votes_share": -1}, {"adjustment": float("nan")}])
def test_shares_are_between_none_and_all(serving: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="it must be 0 to 1"):
        Serving(**serving)
