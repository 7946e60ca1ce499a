"""The image pyramid: one picture at many sizes, so that a face of any size fills P-Net's window in one."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import cv2
import numpy as np

from service.vision.types import UInt8Array

CELL = 12  # side of P-Net's window, in pixels of a pyramid level

# How many pixels the smallest face spans in the first level. With P-Net's own 12, faces of about the minimum
# size are often missed; a tenth more finds them at the same precision (`python -m benchmarks.detection`).
SMALLEST_SPAN = 1.1 * CELL


def halve(pixels: UInt8Array) -> list[UInt8Array]:
    """The image and its repeated halvings, so that no later resize reads more than four pixels for one."""
    halvings: list[UInt8Array] = [pixels]
    while min(halvings[-1].shape[:2]) >= 2 * CELL:
        height, width = halvings[-1].shape[:2]
        halvings.append(averaged(halvings[-1], (width // 2, height // 2)))
    return halvings


class Level(NamedTuple):
    """A level of the pyramid: what it is resized from, and its (width, height)."""

    source: UInt8Array
    size: tuple[int, int]


def pyramid(halvings: list[UInt8Array], min_face_size: float, factor: float) -> Iterator[Level]:
    """Levels in which ever larger faces fill P-Net's window; the first is never larger than the image."""
    height, width = halvings[0].shape[:2]
    scale = SMALLEST_SPAN / max(min_face_size, SMALLEST_SPAN)
    while min(height, width) * scale >= CELL:
        yield Level(sufficient(halvings, scale), (round(width * scale), round(height * scale)))
        scale *= factor


def sufficient(halvings: list[UInt8Array], scale: float) -> UInt8Array:
    """The smallest halving that is still no smaller than the image at this scale."""
    return halvings[min(len(halvings) - 1, max(0, int(np.floor(-np.log2(scale)))))]


# Resizes pixels (H, W, 3) to (width, height), into an array if given.
Resize = Callable[[UInt8Array, tuple[int, int], UInt8Array | None], UInt8Array]


def averaged(pixels: UInt8Array, size: tuple[int, int], into: UInt8Array | None = None) -> UInt8Array:
    """Resize by averaging to shrink, bilinear to enlarge."""
    interpolation = cv2.INTER_AREA if size[0] <= pixels.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, size, into, interpolation=interpolation), np.uint8)


def sampled(pixels: UInt8Array, size: tuple[int, int], into: UInt8Array | None = None) -> UInt8Array:
    """Resize bilinear, to no less than half: three times as fast, and not quite what a camera would see.

    For networks that learned to see such pixels (`training/mtcnn/distill.py`). What has the size already is
    given back as it is.
    """
    if into is None and size == pixels.shape[1::-1]:
        return pixels
    return np.asarray(cv2.resize(pixels, size, into, interpolation=cv2.INTER_LINEAR), np.uint8)
