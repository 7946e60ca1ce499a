"""What R-Net and O-Net see: crops of squares, each resized to the side that its network takes."""

from typing import NamedTuple

import numpy as np

from service.vision.batches import run_in_batches
from service.vision.pyramid import Resize, averaged, sampled
from service.vision.types import NOBODY, Float32Array, Helpers, Session, UInt8Array


class Look(NamedTuple):
    """How a network sees squares: at this side, so many at once, resized so."""

    side: int
    batch: int
    resize: Resize


# R-Net and O-Net see at most so many crops at once, as P-Net sees tiles. In smaller runs a crop takes longer.
RNET, ONET = Look(24, 16, sampled), Look(48, 4, averaged)

OUTSIDE = 128  # zero, for the networks: what a crop shows beyond the image


def run_on_crops(
    session: Session,
    halvings: list[UInt8Array],
    squares: Float32Array,
    look: Look,
    helpers: Helpers = NOBODY,
) -> list[Float32Array]:
    """The session's outputs for the crops of all squares (N, 4)."""
    # All crops are cut before the first run: two threads that cut at a time wait for Python's lock at each.
    return run_in_batches(session, cut(halvings, squares, look), look.batch, helpers)


def cut(halvings: list[UInt8Array], squares: Float32Array, look: Look) -> UInt8Array:
    """Crops (N, side, side, 3) of squares (N, 4), each from the smallest halving with `side` pixels of it."""
    side = look.side
    shrinking = np.log2(np.maximum((squares[:, 2] - squares[:, 0]) / side, 1))
    sources = np.minimum(shrinking.astype(np.intp), len(halvings) - 1)
    scales = np.array([2 * source.shape[1::-1] for source in halvings]) / (2 * halvings[0].shape[1::-1])
    windows = np.rint(squares * scales[sources]).astype(np.intp)
    crops = np.empty((len(squares), side, side, 3), np.uint8)
    for crop, source, window in zip(crops, sources.tolist(), windows.tolist(), strict=True):
        look.resize(cut_window(halvings[source], *window), (side, side), crop)
    return crops


def cut_window(source: UInt8Array, x1: int, y1: int, x2: int, y2: int) -> UInt8Array:
    """(y2 - y1, x2 - x1, 3) pixels, gray where the window leaves the image."""
    height, width = source.shape[:2]
    if 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height:
        return source[y1:y2, x1:x2]
    left, top = max(x1, 0), max(y1, 0)
    inner = source[top : max(y2, 0), left : max(x2, 0)]
    height, width = inner.shape[:2]
    window = np.full((max(y2 - y1, 1), max(x2 - x1, 1), 3), OUTSIDE, np.uint8)
    window[top - y1 : top - y1 + height, left - x1 : left - x1 + width] = inner
    return window
