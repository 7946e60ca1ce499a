"""Arithmetic on boxes: float arrays (N, 4) of x1, y1, x2, y2, the right and lower edge exclusive."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from service.vision.types import Float32Array

Overlap = Literal["union", "min"]


def areas(boxes: Float32Array) -> Float32Array:
    """(N,) areas; zero where an edge is beyond its opposite."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return sides[:, 0] * sides[:, 1]


def overlap(box: Float32Array, others: Float32Array, mode: Overlap = "union") -> Float32Array:
    """(N,) intersection of one box (4,) with each of others, over their union or over the smaller of the two."""
    sides = np.maximum(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0)
    shared = sides[:, 0] * sides[:, 1]
    own, theirs = areas(box[None]), areas(others)
    whole = own + theirs - shared if mode == "union" else np.minimum(own, theirs)
    return shared / np.maximum(whole, np.finfo(np.float32).tiny)


def suppress(
    boxes: Float32Array, scores: Float32Array, threshold: float, mode: Overlap = "union"
) -> NDArray[np.intp]:
    """Indices kept by greedy non-maximum suppression, best first; memory grows with N, not its square."""
    order = np.argsort(-scores, kind="stable")
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[overlap(boxes[best], boxes[order], mode) <= threshold]
    return np.array(kept, np.intp)


def regress(boxes: Float32Array, offsets: Float32Array) -> Float32Array:
    """Move each corner by offsets (N, 4), given in units of the box's width and height."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes + offsets * np.tile(sides, 2)


def square(boxes: Float32Array) -> Float32Array:
    """Grow the shorter side to the longer one about the centre."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    halves = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.hstack([centres - halves, centres + halves])


def clip(boxes: Float32Array, width: int, height: int) -> NDArray[np.int64]:
    """Whole-pixel boxes inside an image of that size; one that lies outside becomes empty."""
    return np.rint(boxes).astype(np.int64).clip(0, [width, height, width, height])
