"""The cascade's first stage: what P-Net proposes in every level of the pyramid, and what of it is kept."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.vision.boxes import regress, square
from service.vision.pyramid import CELL, Level, pyramid, resize
from service.vision.tables import joined, rows_at
from service.vision.types import Float32Array, Session, Together, UInt8Array, one_by_one

STRIDE = 2  # from one of P-Net's windows to the next, in pixels of a level

# P-Net sees a level in tiles of this side: what a run computes stays in the cache, memory does not grow with
# the image, and runs can share the cores.
TILE = 256

# Candidates kept of one tile, of one level before, and of all levels after suppression, best first.
MAX_PER_TILE = 4000
MAX_PER_LEVEL = 8000
MAX_CANDIDATES = 3000

# The filter sees what P-Net answers to so many windows to each side of a candidate. Candidates that it thinks
# less likely than this to become a face stop there (docs/performance.md).
AROUND = 3
LEAST_PROMISE = 0.003


class Windows(NamedTuple):
    """Some of P-Net's windows in a level: their rows, columns (N,), scores (N,) and offsets (N, 4)."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    scores: Float32Array
    offsets: Float32Array


class Peaks(NamedTuple):
    """Windows that none around them outdoes: boxes (N, 4) in pixels of the image, scores (N,).

    offsets: (N, 4) from the boxes to the faces; surroundings: see `Candidates`.
    """

    boxes: Float32Array
    scores: Float32Array
    offsets: Float32Array
    surroundings: UInt8Array


class Candidates(NamedTuple):
    """What P-Net proposes: squares (N, 4) in pixels of the image, and its scores (N,).

    surroundings: (N, 7, 7, 5) P-Net's `response` to each candidate's window, in the middle, and those around.
    """

    squares: Float32Array
    scores: Float32Array
    surroundings: UInt8Array


class Proposals(NamedTuple):
    """What R-Net is to look at: squares (N, 4) in pixels of the image, the best of P-Net's scores first.

    promise: (N,) probabilities that R-Net and O-Net see a face there.
    """

    squares: Float32Array
    promise: Float32Array


class ProposalStage:
    """P-Net and the filter (`training/mtcnn` tells their inputs and outputs)."""

    def __init__(self, pnet: Session, filter_: Session) -> None:
        self._pnet, self._filter = pnet, filter_

    def find(
        self,
        halvings: list[UInt8Array],
        min_face_size: float,
        factor: float,
        threshold: float,
        together: Together = one_by_one,
    ) -> Proposals:
        """What P-Net proposes and the filter lets pass."""
        squares, scores, surroundings = self.propose(halvings, min_face_size, factor, threshold, together)
        if not len(squares):
            return Proposals(squares, scores)
        (promise,) = self._filter.run({"surroundings": surroundings})
        kept = promise >= LEAST_PROMISE
        return Proposals(squares[kept], promise[kept])

    def propose(
        self,
        halvings: list[UInt8Array],
        min_face_size: float,
        factor: float,
        threshold: float,
        together: Together = one_by_one,
    ) -> Candidates:
        """What P-Net sees in all levels of the pyramid, best first."""
        levels = list(pyramid(halvings, min_face_size, factor))
        large = together([partial(Scan.of, level) for level in levels if max(level.size) > TILE])
        corners = [list(tiles(*scan.pixels.shape[:2])) for scan in large]
        runs: list[Callable[[], Any]] = [
            partial(self._scan, scan, *corner, threshold)
            for scan, its_corners in zip(large, corners, strict=True)
            for corner in its_corners
        ]
        runs += [partial(self._scan_whole, level, halvings[0], threshold) for level in levels[len(large) :]]
        done = iter(together(runs))
        found = [
            gathered(list(islice(done, len(its_corners))), scan, halvings[0])
            for scan, its_corners in zip(large, corners, strict=True)
        ]
        found += done
        every = joined([NOTHING, *found])
        best = rows_at(every, best_of(every.scores, MAX_CANDIDATES))
        return Candidates(square(regress(best.boxes, best.offsets)), best.scores, best.surroundings)

    def _scan_whole(self, level: Level, image: UInt8Array, threshold: float) -> Peaks:
        """P-Net on a level that is a single tile; see `gathered`."""
        scan = Scan.of(level)
        return gathered([self._scan(scan, 0, 0, threshold)], scan, image)

    def _scan(self, scan: "Scan", top: int, left: int, threshold: float) -> Windows:
        """P-Net on one tile of a level; writes what it answers into the scan."""
        tile = np.ascontiguousarray(scan.pixels[None, top : top + TILE, left : left + TILE])
        probability, offsets, response = self._pnet.run({"image": tile})
        first_row, first_column = top // STRIDE, left // STRIDE
        height, width = probability.shape[1:]
        scan.responses[first_row + AROUND :, first_column + AROUND :][:height, :width] = response[0]
        rows, columns = np.nonzero(probability[0] > threshold)
        scores = probability[0, rows, columns]
        windows = Windows(rows + first_row, columns + first_column, scores, offsets[0, rows, columns])
        return rows_at(windows, best_of(scores, MAX_PER_TILE)) if len(scores) > MAX_PER_TILE else windows


class Scan(NamedTuple):
    """A level's pixels (H, W, 3), and P-Net's `response` to its windows (h, w, 5), with AROUND of nothing."""

    pixels: UInt8Array
    responses: UInt8Array

    @classmethod
    def of(cls, level: Level) -> "Scan":
        """The level, not yet looked at."""
        width, height = level.size
        cells = height // STRIDE + 2 * AROUND, width // STRIDE + 2 * AROUND
        return cls(resize(*level), np.zeros((*cells, 5), np.uint8))


SPAN = 2 * AROUND + 1
NOTHING = Peaks(
    np.empty((0, 4), np.float32),
    np.empty(0, np.float32),
    np.empty((0, 4), np.float32),
    np.empty((0, SPAN, SPAN, 5), np.uint8),
)


def gathered(tiles_windows: Sequence[Windows], scan: Scan, image: UInt8Array) -> Peaks:
    """What the tiles of a level hold: the best of those that overlap."""
    windows = joined(tiles_windows) if len(tiles_windows) > 1 else tiles_windows[0]
    if not len(windows.rows):
        return NOTHING
    windows = rows_at(windows, best_of(windows.scores, MAX_PER_LEVEL))
    rows, columns, scores, offsets = rows_at(windows, peaks(windows.rows, windows.columns))
    scale = np.array(image.shape[1::-1]) / scan.pixels.shape[1::-1]
    corners = np.stack([columns, rows], axis=1) * STRIDE
    boxes = np.concatenate([corners * scale, (corners + CELL) * scale], axis=1, dtype=np.float32)
    return Peaks(boxes, scores, offsets, around(scan.responses, rows, columns))


def around(responses: UInt8Array, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> UInt8Array:
    """(N, 7, 7, 5) responses to the windows around those of a level."""
    span = np.arange(SPAN)
    windows = responses[rows[:, None, None] + span[:, None], columns[:, None, None] + span]
    return np.asarray(windows, np.uint8)


def peaks(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> list[int]:
    """Which windows of a level greedy non-maximum suppression at one half keeps, of (N,) given best first.

    Windows overlap by more than half only where they are neighbours: P-Net's stride away, in rows, columns or
    both. At twice that the overlap is exactly a half.
    """
    taken = np.zeros((rows.max() + 3, columns.max() + 3), np.bool_)
    kept = []
    for index, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        if not taken[row + 1, column + 1]:
            taken[row : row + 3, column : column + 3] = True
            kept.append(index)
    return kept


def tiles(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Top left corners of tiles that share no window of P-Net and miss none."""
    step, shared = TILE - CELL + STRIDE, CELL - STRIDE
    for top in range(0, height - shared, step):
        for left in range(0, width - shared, step):
            yield top, left


def best_of(scores: Float32Array, most: int) -> NDArray[np.intp]:
    """Indices of the highest scores, best first; among equals the first."""
    return np.argsort(-scores, kind="stable")[:most]
