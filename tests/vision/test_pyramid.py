"""One picture at many sizes."""

import numpy as np
import pytest

from service.vision.pyramid import CELL, averaged, halve, pyramid, sampled
from service.vision.types import UInt8Array


def noise(width: int, height: int) -> UInt8Array:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_a_picture_is_halved_down_to_the_window_of_pnet() -> None:
    assert [half.shape[1::-1] for half in halve(noise(101, 60))] == [(101, 60), (50, 30), (25, 15)]
    assert [half.shape[1::-1] for half in halve(noise(24, 24))] == [(24, 24), (12, 12)]


@pytest.mark.parametrize(("smallest", "first"), [(1, (200, 100)), (13.2, (200, 100)), (26.4, (100, 50))])
def test_levels_shrink_from_the_smallest_face_to_the_window_of_pnet(
    smallest: float, first: tuple[int, int]
) -> None:
    levels = list(pyramid(halve(noise(200, 100)), smallest, 0.65))
    assert levels[0].size == first
    assert CELL <= levels[-1].size[1] < CELL / 0.65
    for source, (width, height) in levels:
        assert width <= source.shape[1] <= 2 * width + 2
        assert height <= source.shape[0] <= 2 * height + 2


def test_what_shrinks_is_averaged_and_what_grows_is_smooth() -> None:
    grain = noise(90, 60)
    blocks = grain.reshape(20, 3, 30, 3, 3).mean(axis=(1, 3))
    assert np.abs(averaged(grain, (30, 20)) - blocks).max() <= 1
    step = np.repeat(np.array([[[0], [100]]], np.uint8), 3, axis=2)
    assert averaged(step, (4, 1))[0, :, 0].tolist() == [0, 25, 75, 100]


def test_what_has_the_size_already_is_not_copied() -> None:
    grain = noise(30, 20)
    assert sampled(grain, (30, 20)) is grain
