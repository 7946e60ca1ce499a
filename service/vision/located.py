"""Faces as the cascade locates them, and what becomes of several that are about the same one."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.vision.boxes import clip, in_blocks, overlap, square, suppress
from service.vision.tables import rows_at
from service.vision.types import Box, Face, Float32Array, Landmarks, Point

# What O-Net says of two squares is about the same face where its boxes overlap by more than this. A square
# counts the more, by this power of the overlap, the better it fits the face's box; at least a little.
AGREE, FIT, LEAST_FIT = 0.6, 4, 0.01

# The published networks put a box, but not its landmarks, too far to the left and up: by a pixel of the image
# or of what O-Net sees of it, whichever is larger (docs/models.md, "Where a box lies").
PIXEL = 1 / 48


class Located(NamedTuple):
    """Faces in pixels of the decoded image: boxes (N, 4), scores (N,), landmarks (N, 5, 2).

    windows: (N, 4) the squares that showed them to O-Net; candidates: (N,) where these stood among O-Net's.
    """

    boxes: Float32Array
    scores: Float32Array
    landmarks: Float32Array
    windows: Float32Array
    candidates: NDArray[np.intp]


NOWHERE = Located(
    np.empty((0, 4), np.float32),
    np.empty(0, np.float32),
    np.empty((0, 5, 2), np.float32),
    np.empty((0, 4), np.float32),
    np.empty(0, np.intp),
)


def apart(found: Located) -> Located:
    """Of faces that lie on each other the best one, with the landmarks that all of them agree on.

    O-Net's points move with the square that it is shown. The mean of what it says about several squares of a
    face, weighted by its scores and by how well the squares fit, moves less.
    """
    kept = suppress(found.boxes, found.scores, 0.7, "min")
    landmarks = [agreed(boxes, found) for boxes in in_blocks(found.boxes[kept])]
    return rows_at(found, kept)._replace(landmarks=np.concatenate(landmarks))


def agreed(boxes: Float32Array, found: Located) -> Float32Array:
    """(N, 5, 2) the landmarks of the faces in some boxes (N, 4)."""
    fit = np.maximum(overlap(square(boxes), found.windows), LEAST_FIT) ** FIT
    votes = (overlap(boxes, found.boxes) > AGREE) * fit * found.scores
    return np.tensordot(votes / votes.sum(axis=1, keepdims=True), found.landmarks, 1)


def put_right(boxes: Float32Array) -> Float32Array:
    """The networks' boxes (N, 4), in pixels that they were shown, where the faces are."""
    moved: Float32Array = boxes + np.maximum((boxes[:, 2:3] - boxes[:, :1]) * PIXEL, 1)
    return moved


def to_faces(
    located: Located, scale: float, width: int, height: int, *, windows: Float32Array
) -> tuple[Face, ...]:
    """Faces whose box, put right and clipped to the full image, is not empty; largest first.

    scale: size of the decoded image in terms of the full one; windows: (N, 4) in full pixels.
    """
    faces = []
    shown = clip(put_right(located.boxes) / scale, width, height)
    rows = (located.boxes / scale, shown, located.scores, located.landmarks / scale, windows)
    for region, (x1, y1, x2, y2), score, points, window in zip(*(row.tolist() for row in rows), strict=True):
        if x1 < x2 and y1 < y2:
            marks = Landmarks(*(Point(*point) for point in points))
            box = Box(x1, y1, x2 - x1, y2 - y1)
            faces.append(Face(box, tuple(region), score, marks, tuple(window)))
    return tuple(sorted(faces, key=lambda face: face.box.width * face.box.height, reverse=True))
