"""The cascade's first stage: what P-Net proposes in every level of the pyramid, and what of it is kept."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from service.vision.boxes import regress, square
from service.vision.pyramid import CELL, Level, pyramid, sampled
from service.vision.tables import joined, rows_at
from service.vision.types import NOBODY, Float32Array, Helpers, Session, UInt8Array

STRIDE = 2  # from one of P-Net's windows to the next, in pixels of a level

# P-Net sees a level in tiles of this side: what a run computes stays in the cache, memory does not grow with
# the image, and runs can share the cores.
TILE = 256

# Candidates kept of one tile, of all before, and after suppression, best first.
MAX_PER_TILE = 4000
MAX_WINDOWS = 24_000
MAX_CANDIDATES = 3000

# How many tiles may have found something before only the best of it is kept.
TILES_AT_ONCE = 64

# The filter sees what P-Net answers to so many windows to each side of a candidate. Candidates that it thinks
# less likely than this to become a face stop there (docs/performance.md).
AROUND = 3
SPAN = 2 * AROUND + 1
LEAST_PROMISE = 0.005


class Windows(NamedTuple):
    """Some of P-Net's windows: their rows and columns on the canvas (N,), scores (N,) and offsets (N, 4)."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    scores: Float32Array
    offsets: Float32Array


class Tile(NamedTuple):
    """Some of a level's pixels (H, W, 3), and where on the canvas their first window is."""

    pixels: UInt8Array
    row: int
    column: int


class Canvas(NamedTuple):
    """What P-Net answers to all levels, one below the other, each with AROUND of nothing on all sides.

    responses: (rows, columns, 5) P-Net's `response` to each window; tops: (L,) the first row of each level's
    windows; scales: (L, 2) pixels of the image for one of each level, across and down.
    """

    responses: UInt8Array
    tops: NDArray[np.intp]
    scales: NDArray[np.float64]

    @classmethod
    def of(cls, levels: Sequence[Level], image: UInt8Array) -> "Canvas":
        """For these levels of the image, not yet looked at."""
        sizes = np.array([level.size for level in levels])
        heights = sizes[:, 1] // STRIDE + 2 * AROUND
        tops = np.array(list(accumulate(heights, initial=0)))
        responses = np.zeros((tops[-1], sizes[:, 0].max() // STRIDE + 2 * AROUND, 5), np.uint8)
        return cls(responses, tops[:-1], np.array(image.shape[1::-1]) / sizes)

    def boxes(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Float32Array:
        """(N, 4) what windows cover, in pixels of the image."""
        level = np.searchsorted(self.tops, rows, "right") - 1
        corners = np.stack([columns, rows - self.tops[level]], axis=1) * STRIDE
        scales = self.scales[level]
        return np.concatenate([corners * scales, (corners + CELL) * scales], axis=1, dtype=np.float32)

    def around(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> UInt8Array:
        """(N, 7, 7, 5) responses to windows, in the middle, and to those around them."""
        windows = sliding_window_view(self.responses, (SPAN, SPAN), axis=(0, 1))[rows, columns]
        return np.ascontiguousarray(windows.transpose(0, 2, 3, 1))


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
        helpers: Helpers = NOBODY,
    ) -> Proposals:
        """What P-Net proposes and the filter lets pass."""
        squares, scores, surroundings = self.propose(halvings, min_face_size, factor, threshold, helpers)
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
        helpers: Helpers = NOBODY,
    ) -> Candidates:
        """What P-Net sees in all levels of the pyramid, best first; of windows that overlap, the best."""
        levels = list(pyramid(halvings, min_face_size, factor))
        if not levels:
            return NOTHING
        canvas = Canvas.of(levels, halvings[0])
        scans = self._scans(levels, canvas, threshold, helpers)
        found: list[Windows] = []
        for start in range(0, len(scans), TILES_AT_ONCE):
            if found:
                found = [best_windows(found)]
            found += helpers.together(scans[start : start + TILES_AT_ONCE])
        windows = best_windows(found)
        if not len(windows.rows):
            return NOTHING
        best = peaks(windows.rows, windows.columns)[:MAX_CANDIDATES]
        rows, columns, scores, offsets = rows_at(windows, best)
        squares = square(regress(canvas.boxes(rows, columns), offsets))
        return Candidates(squares, scores, canvas.around(rows, columns))

    def _scans(
        self, levels: Sequence[Level], canvas: Canvas, threshold: float, helpers: Helpers
    ) -> list[Callable[[], Windows]]:
        """Runs of P-Net that do not depend on each other: one for each tile of the levels."""
        large = sum(max(level.size) > TILE for level in levels)
        resized = helpers.together([partial(sampled, *level) for level in levels[:large]])
        scans: list[Callable[[], Windows]] = [
            partial(self._scan_tile, tile, canvas, threshold)
            for pixels, top in zip(resized, canvas.tops.tolist(), strict=False)
            for tile in tiles(pixels, top)
        ]
        scans += [
            partial(self._scan_level, level, top, canvas, threshold)
            for level, top in zip(levels[large:], canvas.tops[large:].tolist(), strict=True)
        ]
        return scans

    def _scan_level(self, level: Level, top: int, canvas: Canvas, threshold: float) -> Windows:
        """P-Net on a level that is a single tile."""
        return self._scan_tile(Tile(sampled(*level), top, 0), canvas, threshold)

    def _scan_tile(self, tile: Tile, canvas: Canvas, threshold: float) -> Windows:
        """P-Net on a tile; what it answers goes onto the canvas."""
        pixels = np.ascontiguousarray(tile.pixels[None])
        probability, offsets, response = self._pnet.run({"image": pixels})
        height, width = probability.shape[1:]
        canvas.responses[tile.row + AROUND :, tile.column + AROUND :][:height, :width] = response[0]
        rows, columns = np.nonzero(probability[0] > threshold)
        scores = probability[0, rows, columns]
        windows = Windows(rows + tile.row, columns + tile.column, scores, offsets[0, rows, columns])
        return rows_at(windows, best_of(scores, MAX_PER_TILE)) if len(scores) > MAX_PER_TILE else windows


NOTHING = Candidates(
    np.empty((0, 4), np.float32),
    np.empty(0, np.float32),
    np.empty((0, SPAN, SPAN, 5), np.uint8),
)


def peaks(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> list[int]:
    """Which windows greedy non-maximum suppression at one half keeps, of (N,) given best first.

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


def tiles(pixels: UInt8Array, top: int) -> Iterator[Tile]:
    """Tiles of a level (H, W, 3) that share no window of P-Net and miss none. top: see `Canvas`."""
    step, shared = TILE - CELL + STRIDE, CELL - STRIDE
    height, width = pixels.shape[:2]
    for y in range(0, height - shared, step):
        for x in range(0, width - shared, step):
            yield Tile(pixels[y : y + TILE, x : x + TILE], top + y // STRIDE, x // STRIDE)


def best_windows(found: Sequence[Windows]) -> Windows:
    """The best of what was found in several places, best first."""
    windows = joined(found)
    return rows_at(windows, best_of(windows.scores, MAX_WINDOWS))


def best_of(scores: Float32Array, most: int) -> NDArray[np.intp]:
    """Indices of the highest scores, best first; among equals the first."""
    return np.argsort(-scores, kind="stable")[:most]
