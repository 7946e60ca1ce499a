"""What the values tell of themselves."""

import numpy as np
import pytest

from service.vision.types import DecodedImage, UInt8Array


@pytest.mark.parametrize(
    ("size", "shape", "scale"),
    [
        *[((512, 512), (256, 256), 0.5), ((401, 3600), (51, 450), 1 / 8), ((3600, 401), (450, 51), 1 / 8)],
        ((3601, 401), (451, 51), 1 / 8),
        *[((1, 1), (1, 1), 1), ((9, 9), (2, 2), 2 / 9), ((640, 480), (480, 360), 0.75)],
    ],
)
def test_the_scale_is_that_of_both_sides(size: tuple[int, int], shape: tuple[int, int], scale: float) -> None:
    image = DecodedImage(np.zeros((shape[1], shape[0], 3), np.uint8), *size, "jpeg", 1)
    assert image.scale == pytest.approx(scale)


@pytest.mark.parametrize(
    "pixels", [np.zeros((9, 9, 3)), np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8)]
)
def test_pixels_that_no_graph_takes_are_refused(pixels: UInt8Array) -> None:
    with pytest.raises(ValueError, match="uint8"):
        DecodedImage(pixels, 9, 9, "jpeg", 1)
