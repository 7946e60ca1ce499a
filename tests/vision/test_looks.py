"""The crops that R-Net and O-Net see."""

import numpy as np
import pytest

from service.vision.looks import cut_window


def test_what_lies_outside_the_image_is_gray() -> None:
    image = np.full((10, 10, 3), 255, np.uint8)
    window = cut_window(image, -2, 4, 6, 12)
    assert window.shape == (8, 8, 3)
    # Zero for the networks, whose input is (pixel - 127.5) / 128.
    assert (window[:6, 2:] == 255).all()
    assert (window[:, :2] == 128).all()
    assert (window[6:] == 128).all()


@pytest.mark.parametrize("window", [(-9, 4, -3, 10), (4, -9, 10, -3), (12, 4, 18, 10), (4, 12, 10, 18)])
def test_a_window_beside_the_image_is_gray(window: tuple[int, int, int, int]) -> None:
    image = np.full((10, 10, 3), 255, np.uint8)
    assert cut_window(image, *window).shape == (6, 6, 3)
    assert (cut_window(image, *window) == 128).all()


def test_a_window_of_less_than_a_pixel_is_one() -> None:
    assert cut_window(np.zeros((10, 10, 3), np.uint8), 5, 5, 5, 5).shape == (1, 1, 3)
