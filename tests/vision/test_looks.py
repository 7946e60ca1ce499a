"""The crops that R-Net and O-Net see."""

import numpy as np

from service.vision.looks import cut_window


def test_what_lies_outside_the_image_is_gray() -> None:
    image = np.full((10, 10, 3), 255, np.uint8)
    window = cut_window(image, -2, 4, 6, 12)
    assert window.shape == (8, 8, 3)
    # Zero for the networks, whose input is (pixel - 127.5) / 128.
    assert (window[:6, 2:] == 255).all()
    assert (window[:, :2] == 128).all()
    assert (window[6:] == 128).all()
