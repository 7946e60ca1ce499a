"""The face detector: MTCNN's cascade of three networks over an image pyramid.

Zhang, Zhang, Li, Qiao (2016): Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
Networks.
Coordinates are continuous: pixel i covers [i, i + 1).
"""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from service.vision.batches import batches
from service.vision.boxes import areas, clip, regress, square, suppress
from service.vision.types import (
    Box,
    DecodedImage,
    Face,
    Float32Array,
    Landmarks,
    Point,
    Session,
    Together,
    UInt8Array,
    one_by_one,
)

CELL, STRIDE = 12, 2  # P-Net's window, and the step from one to the next, in pixels of a pyramid level
RNET_SIDE, ONET_SIDE = 24, 48

# How many pixels the smallest face spans in the first level. With P-Net's own 12, faces of about the minimum
# size are often missed; a tenth more finds them at the same precision (`python -m benchmarks.detection`).
SMALLEST_SPAN = 1.1 * CELL

# P-Net is sure of most faces in several neighbouring windows, of anything else more often in one alone. Of
# candidates with a smaller sum of scores around them only the best few go on (docs/performance.md).
LEAST_SUPPORT, MAX_ALONE = 1.5, 8
# O-Net sees no candidate that overlaps so many better ones by more than CLOSE. The best alone would not do:
# it is O-Net, not R-Net, that knows which square shows a face and its landmarks best.
CLOSE, BETTER = 0.5, 2

# P-Net sees a level in tiles of this side, R-Net and O-Net at most so many crops at once: what a run computes
# stays in the cache, memory does not grow with the image, and runs can share the cores. In smaller
# runs a crop takes longer.
TILE = 256
RNET_BATCH, ONET_BATCH = 16, 4

# Candidates kept of one tile, of one level before, and of all levels after suppression, best first.
MAX_PER_TILE = 4000
MAX_PER_LEVEL = 8000
MAX_CANDIDATES = 3000

OUTSIDE = 128  # zero, for the networks: what a crop shows beyond the image


@dataclass(frozen=True, slots=True)
class DetectionParameters:
    """min_face_size: the smallest face to look for, in pixels of the full upright image.

    thresholds: least face probability after P-Net, R-Net and O-Net.
    pyramid_factor: size of a pyramid level relative to the one before. Where it is at most 0.8, candidates of
        different levels do not overlap enough to suppress each other.
    """

    min_face_size: float
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)
    pyramid_factor: float = 0.709


def default_min_face_size(width: int, height: int) -> float:
    """40 pixels or 4 % of the longer side, so that a phone photo does not cost forty times a webcam frame."""
    return max(40.0, 0.04 * max(width, height))


class Mtcnn:
    """The cascade on its three graphs (`training/mtcnn/build.py` tells their inputs and outputs)."""

    def __init__(self, pnet: Session, rnet: Session, onet: Session) -> None:
        self._pnet, self._rnet, self._onet = pnet, rnet, onet
        self._together: Together = one_by_one

    def helped_by(self, together: Together) -> Self:
        """The same; `together` makes the runs of a graph that do not depend on each other."""
        same = copy(self)
        same._together = together
        return same

    def detect(self, image: DecodedImage, parameters: DetectionParameters) -> tuple[Face, ...]:
        """All faces, largest first; boxes and landmarks in pixels of the full upright image."""
        scale = image.pixels.shape[1] / image.width
        halvings = halve(image.pixels)
        propose, refine, accept = parameters.thresholds
        boxes = self._propose(halvings, parameters.min_face_size * scale, parameters.pyramid_factor, propose)
        boxes = self._refine(halvings, boxes, refine)
        located = apart(self._look(halvings, boxes, accept))
        windows = boxes[located.candidates] / scale
        return to_faces(located, scale, image.width, image.height, windows=windows)

    def follow(
        self, image: DecodedImage, faces: Sequence[Face], parameters: DetectionParameters
    ) -> tuple[Face, ...]:
        """These faces of the frame before, where they are now, largest first; nothing else is looked for.

        One run of O-Net on one crop each. The crop moves and grows as the face does, so that a frame like the
        one that was searched gets the same answer.
        """
        scale = image.pixels.shape[1] / image.width
        before = np.array([face.region for face in faces], np.float32).reshape(-1, 4)
        windows = np.array([face.window or face.region for face in faces], np.float32).reshape(-1, 4)
        accept = parameters.thresholds[2]
        located = apart(self._look(halve(image.pixels), square(windows * scale), accept))
        kept = located.candidates
        windows = moved(windows[kept], before[kept], located.boxes / scale)
        return to_faces(located, scale, image.width, image.height, windows=windows)

    def _propose(
        self, halvings: list[UInt8Array], min_face_size: float, factor: float, threshold: float
    ) -> Float32Array:
        """P-Net on every level of the pyramid: square candidates (N, 4)."""
        levels = list(pyramid(halvings, min_face_size, factor))
        large = [resize(*level) for level in levels if max(level.size) > TILE]
        corners = [list(tiles(*level.shape[:2])) for level in large]
        runs: list[Callable[[], Any]] = [
            partial(self._scan, level, *corner, threshold)
            for level, its_corners in zip(large, corners, strict=True)
            for corner in its_corners
        ]
        runs += [partial(self._scan_whole, level, halvings[0], threshold) for level in levels[len(large) :]]
        scanned = iter(self._together(runs))
        found = [
            gathered(list(islice(scanned, len(its_corners))), level, halvings[0])
            for level, its_corners in zip(large, corners, strict=True)
        ]
        found += scanned
        all_found = (np.concatenate(parts) for parts in zip(NO_CANDIDATES, *found, strict=True))
        return promising(Candidates(*all_found))

    def _scan_whole(self, level: "Level", pixels: UInt8Array, threshold: float) -> "Candidates":
        """P-Net on a level that is a single tile; see `gathered`."""
        resized = resize(*level)
        return gathered([self._scan(resized, 0, 0, threshold)], resized, pixels)

    def _scan(self, level: UInt8Array, top: int, left: int, threshold: float) -> "Scan":
        """P-Net on one tile of a level: corners in the level (N, 2), scores (N,) and offsets (N, 4)."""
        tile = level[None, top : top + TILE, left : left + TILE]
        probability, offsets = self._pnet.run({"image": np.ascontiguousarray(tile)})
        rows, columns = np.nonzero(probability[0] > threshold)
        scores = probability[0, rows, columns]
        if len(scores) > MAX_PER_TILE:
            best = best_of(scores, MAX_PER_TILE)
            rows, columns, scores = rows[best], columns[best], scores[best]
        corners = np.stack([columns, rows], axis=1) * STRIDE + (left, top)
        return corners, scores, offsets[0, rows, columns]

    def _refine(self, halvings: list[UInt8Array], boxes: Float32Array, threshold: float) -> Float32Array:
        """R-Net on all candidates at once: fewer and better square candidates, best first."""
        if not len(boxes):
            return boxes
        scores, offsets = self._run(self._rnet, halvings, boxes, RNET_SIDE, RNET_BATCH)
        passed = scores > threshold
        boxes, scores, offsets = boxes[passed], scores[passed], offsets[passed]
        kept = suppress(boxes, scores, 0.7)
        kept = kept[suppress(boxes[kept], scores[kept], CLOSE, better=BETTER)]
        return square(regress(boxes[kept], offsets[kept]))

    def _look(self, halvings: list[UInt8Array], boxes: Float32Array, threshold: float) -> "Located":
        """O-Net on square candidates."""
        if not len(boxes):
            return NOWHERE
        scores, offsets, points = self._run(self._onet, halvings, boxes, ONET_SIDE, ONET_BATCH)
        passed = np.flatnonzero(scores > threshold)
        windows = boxes[passed]
        landmarks = windows[:, None, :2] + points[passed] * (windows[:, None, 2:] - windows[:, None, :2])
        return Located(regress(windows, offsets[passed]), scores[passed], landmarks, passed)

    def _run(
        self, session: Session, halvings: list[UInt8Array], boxes: Float32Array, side: int, most: int
    ) -> list[Float32Array]:
        """The session's outputs for the crops of all boxes, `most` at once."""

        def run(some: Float32Array) -> Sequence[Float32Array]:
            return session.run({"crops": cut(halvings, some, side)})

        parts = self._together([partial(run, some) for some in batches(boxes, most)])
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


class Located(NamedTuple):
    """Faces in pixels of the decoded image: boxes (N, 4), scores (N,), landmarks (N, 5, 2).

    candidates: (N,) indices of the candidates in which they were found.
    """

    boxes: Float32Array
    scores: Float32Array
    landmarks: Float32Array
    candidates: NDArray[np.intp]


def apart(found: Located) -> Located:
    """All of them, without those that lie on a better one."""
    boxes, scores, landmarks, candidates = found
    kept = suppress(boxes, scores, 0.7, "min")
    return Located(boxes[kept], scores[kept], landmarks[kept], candidates[kept])


NOWHERE = Located(
    np.empty((0, 4), np.float32),
    np.empty(0, np.float32),
    np.empty((0, 5, 2), np.float32),
    np.empty(0, np.intp),
)
# Corners in the level (N, 2), scores (N,) and offsets (N, 4).
Scan = tuple[NDArray[Any], Float32Array, Float32Array]


class Candidates(NamedTuple):
    """What P-Net found: boxes (N, 4) in pixels, scores (N,), offsets (N, 4).

    supported: (N,) whether the windows around see a face too.
    """

    boxes: Float32Array
    scores: Float32Array
    offsets: Float32Array
    supported: NDArray[np.bool_]


NO_CANDIDATES = Candidates(
    np.empty((0, 4), np.float32),
    np.empty(0, np.float32),
    np.empty((0, 4), np.float32),
    np.empty(0, np.bool_),
)


def gathered(scanned: list[Scan], level: UInt8Array, pixels: UInt8Array) -> Candidates:
    """What the tiles of a level hold: the best of those that overlap, as boxes in coordinates of `pixels`."""
    corners, scores, offsets = (np.concatenate(parts) for parts in zip(*scanned, strict=True))
    best = best_of(scores, MAX_PER_LEVEL)
    corners, scores, offsets = corners[best], scores[best], offsets[best]
    supported = support(corners, scores, level) >= LEAST_SUPPORT
    to_pixels = np.array(pixels.shape[1::-1]) / level.shape[1::-1]
    boxes = (np.hstack([corners, corners + CELL]) * np.tile(to_pixels, 2)).astype(np.float32)
    kept = suppress(boxes, scores, 0.5)
    return Candidates(boxes[kept], scores[kept], offsets[kept], supported[kept])


def support(corners: NDArray[Any], scores: Float32Array, level: UInt8Array) -> Float32Array:
    """(N,) sums of the scores of the windows that overlap each one by more than half, itself among them.

    Those are its eight neighbours, two pixels away: at four, the overlap is exactly a half.
    """
    columns, rows = corners.T // STRIDE
    grid = np.zeros((level.shape[0] // STRIDE, level.shape[1] // STRIDE), np.float32)
    grid[rows, columns] = scores
    sums = cv2.boxFilter(grid, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
    found: Float32Array = sums[rows, columns]
    return found


def promising(found: Candidates) -> Float32Array:
    """Squares (N, 4) that R-Net is to look at, best first."""
    best = best_of(found.scores, MAX_CANDIDATES)
    alone = ~found.supported[best]
    best = best[~alone | (np.cumsum(alone) <= MAX_ALONE)]
    return square(regress(found.boxes[best], found.offsets[best]))


def best_of(scores: Float32Array, most: int) -> NDArray[np.intp]:
    """Indices of the highest scores, best first; among equals the first."""
    return np.argsort(-scores, kind="stable")[:most]


def halve(pixels: UInt8Array) -> list[UInt8Array]:
    """The image and its repeated halvings, so that no later resize reads more than four pixels for one."""
    halvings: list[UInt8Array] = [pixels]
    while min(halvings[-1].shape[:2]) >= 2 * CELL:
        height, width = halvings[-1].shape[:2]
        halvings.append(resize(halvings[-1], (width // 2, height // 2)))
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


def tiles(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Top left corners of tiles that share no window of P-Net and miss none."""
    step, shared = TILE - CELL + STRIDE, CELL - STRIDE
    for top in range(0, height - shared, step):
        for left in range(0, width - shared, step):
            yield top, left


def sufficient(halvings: list[UInt8Array], scale: float) -> UInt8Array:
    """The smallest halving that is still no smaller than the image at this scale."""
    return halvings[min(len(halvings) - 1, max(0, int(np.floor(-np.log2(scale)))))]


def resize(pixels: UInt8Array, size: tuple[int, int], into: UInt8Array | None = None) -> UInt8Array:
    """Resize to (width, height), `into` an array if given: averaging to shrink, bilinear to enlarge."""
    interpolation = cv2.INTER_AREA if size[0] <= pixels.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, size, into, interpolation=interpolation), np.uint8)


def cut(halvings: list[UInt8Array], boxes: Float32Array, side: int) -> UInt8Array:
    """Crops (N, side, side, 3) of the boxes, each from the smallest halving that has its detail."""
    crops = np.empty((len(boxes), side, side, 3), np.uint8)
    shrinking = np.log2(np.maximum((boxes[:, 2] - boxes[:, 0]) / side, 1))
    sources = np.minimum(shrinking.astype(np.intp), len(halvings) - 1)
    scales = np.array([source.shape[1::-1] for source in halvings]) / halvings[0].shape[1::-1]
    corners = np.rint(boxes * np.tile(scales[sources], 2)).astype(np.intp)
    for crop, source, box in zip(crops, sources.tolist(), corners.tolist(), strict=True):
        resize(cut_window(halvings[source], *box), (side, side), into=crop)
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


def moved(windows: Float32Array, before: Float32Array, after: Float32Array) -> Float32Array:
    """Windows (N, 4), each taken along by a box that was there before and is here after."""
    growth = np.sqrt(areas(after) / np.maximum(areas(before), 1))[:, None]
    starts, ends = ((boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (before, after))
    corners = [ends + (windows[:, i : i + 2] - starts) * growth for i in (0, 2)]
    return np.hstack(corners).astype(np.float32)


def to_faces(
    located: Located, scale: float, width: int, height: int, *, windows: Float32Array
) -> tuple[Face, ...]:
    """Faces whose box, clipped to the full image, is not empty; largest first.

    scale: size of the decoded image in terms of the full one; windows: (N, 4) in full pixels.
    """
    faces = []
    boxes = located.boxes / scale
    rows = (boxes, clip(boxes, width, height), located.scores, located.landmarks / scale, windows)
    for region, (x1, y1, x2, y2), score, points, window in zip(*(row.tolist() for row in rows), strict=True):
        if x1 < x2 and y1 < y2:
            marks = Landmarks(*(Point(*point) for point in points))
            box = Box(x1, y1, x2 - x1, y2 - y1)
            faces.append(Face(box, tuple(region), score, marks, tuple(window)))
    return tuple(sorted(faces, key=lambda face: face.box.width * face.box.height, reverse=True))
