from dataclasses import replace

import numpy as np
import pytest

from training.config import Config
from training.held_out import split_held_out
from training.recipe import PRESETS

from .helpers import faces


@pytest.mark.parametrize("name", sorted(PRESETS.keys() - {"paper"}))
def test_all_presets_hold_out_the_same_images(name: str) -> None:
    """They teach each other and answer together, and `training.robustness --held-out` shows these images."""
    assert (PRESETS[name].held_out, PRESETS[name].seed) == (Config().held_out, Config().seed)


def test_held_out_images_are_apart_and_the_same_every_time() -> None:
    fit, held_out = split_held_out(faces(40), 0.25, seed=1)
    assert len(held_out) == 10
    kept = {image.tobytes() for image in fit.images}
    assert not kept & {image.tobytes() for image in held_out.images}
    assert np.array_equal(split_held_out(faces(40), 0.25, seed=1)[1].images, held_out.images)


def test_which_images_are_held_out_never_changes() -> None:
    """The shipped graphs are calibrated and chosen by these; others they have learned."""
    numbered = replace(faces(39), labels=np.arange(39))
    assert split_held_out(numbered, 0.25, seed=1)[1].labels.tolist() == [26, 9, 22, 16, 0, 6, 7, 17, 15]
    assert split_held_out(numbered, 0.25, seed=2)[1].labels.tolist() != [26, 9, 22, 16, 0, 6, 7, 17, 15]
