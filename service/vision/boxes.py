"""Arithmetic on boxes: float arrays (N, 4) of x1, y1, x2, y2, the right and lower edge exclusive."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from service.vision.types import Float32Array

Overlap = Literal["union", "min"]
LEAST_AREA = np.finfo(np.float32).tiny  # divides what has no area
BLOCK = 64  # boxes compared with all others at once: few calls, and rows that stay in the cache


def areas(boxes: Float32Array) -> Float32Array:
    """(...) areas of boxes (..., 4); zero where an edge is beyond its opposite."""
    sides: Float32Array = np.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def overlap(boxes: Float32Array, others: Float32Array, mode: Overlap = "union") -> Float32Array:
    """Intersections (..., N) of boxes (..., 4) with each of others (N, 4).

    mode: as a share of their "union" (IoU), or of the smaller of the two ("min").
    """
    width = np.minimum(boxes[..., 2, None], others[:, 2]) - np.maximum(boxes[..., 0, None], others[:, 0])
    height = np.minimum(boxes[..., 3, None], others[:, 3]) - np.maximum(boxes[..., 1, None], others[:, 1])
    shared: Float32Array = np.maximum(width, 0) * np.maximum(height, 0)
    own, theirs = areas(boxes)[..., None], areas(others)
    whole = own + theirs - shared if mode == "union" else np.minimum(own, theirs)
    shares: Float32Array = np.divide(shared, np.maximum(whole, LEAST_AREA))
    return shares


def in_blocks(boxes: Float32Array) -> list[Float32Array]:
    """Parts of boxes (N, 4), at least one: who compares them in turn needs no memory for each pair."""
    return [boxes[start : start + BLOCK] for start in range(0, max(len(boxes), 1), BLOCK)]


def suppress(
    boxes: Float32Array,
    scores: Float32Array,
    threshold: float,
    mode: Overlap = "union",
    better: int = 1,
) -> NDArray[np.intp]:
    """Indices kept by greedy non-maximum suppression, best first; memory grows with N, not its square.

    better: a box goes when it overlaps so many kept ones.
    """
    order = np.argsort(-scores, kind="stable")
    if len(order) <= better:
        return order
    boxes, over = boxes[order], np.zeros(len(boxes), np.intp)
    for start in range(0, len(boxes), BLOCK):
        block = start + np.flatnonzero(over[start : start + BLOCK] < better)
        close = overlap(boxes[block], boxes[start:], mode) > threshold
        for index, row in zip(block.tolist(), close, strict=True):
            if over[index] < better:
                over[index + 1 :] += row[index + 1 - start :]
    return order[over < better]


def regress(boxes: Float32Array, offsets: Float32Array) -> Float32Array:
    """Move each corner by offsets (N, 4), given in units of the box's width and height."""
    sides = boxes[:, 2:] - boxes[:, :2]
    moved: Float32Array = boxes + offsets * np.concatenate([sides, sides], axis=1)
    return moved


def square(boxes: Float32Array) -> Float32Array:
    """Grow the shorter side to the longer one about the centre."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    halves = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate([centres - halves, centres + halves], axis=1)


def carried(windows: Float32Array, before: Float32Array, after: Float32Array) -> Float32Array:
    """Windows (N, 4), each taken along by a box that was there before and is here after."""
    growth = np.sqrt(areas(after) / np.maximum(areas(before), 1))[:, None]
    starts, ends = ((boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (before, after))
    corners = [ends + (windows[:, i : i + 2] - starts) * growth for i in (0, 2)]
    return np.hstack(corners)


def clip(boxes: Float32Array, width: int, height: int) -> NDArray[np.int64]:
    """Whole-pixel boxes inside an image of that size; one that lies outside becomes empty."""
    return np.rint(boxes).astype(np.int64).clip(0, [width, height, width, height])
