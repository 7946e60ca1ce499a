"""P-Net in the tiles of all levels, and the filter after it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.vision.boxes import overlap, suppress
from service.vision.mtcnn import DetectionParameters
from service.vision.proposals import (
    AROUND,
    LEAST_PROMISE,
    MAX_PER_TILE,
    STRIDE,
    TILE,
    TILES_AT_ONCE,
    ProposalStage,
    peaks,
    tiles,
)
from service.vision.pyramid import CELL, halve
from service.vision.tables import joined, rows_at
from service.vision.types import Session, UInt8Array
from tests.vision.conftest import Golden
from tests.vision.networks import LetsPass, SeesFacesEverywhere


def test_of_a_tile_the_best_windows_are_kept() -> None:
    class LikesWhatIsLow(SeesFacesEverywhere):
        def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
            probability, *others = super().run(inputs)
            return [probability * np.linspace(0.7, 1, probability.shape[1])[None, :, None], *others]

    stage = ProposalStage(LikesWhatIsLow(), LetsPass())
    found = stage.propose([np.zeros((TILE, TILE, 3), np.uint8)], 1.1 * CELL, 0.01, threshold=0.6)
    windows_across = (TILE - CELL) // STRIDE + 1
    rows = -(-MAX_PER_TILE // windows_across)
    assert len(found.squares)
    assert found.squares[:, 1].min() >= TILE - CELL - STRIDE * rows


def test_of_more_tiles_than_are_seen_at_once_none_is_left_out() -> None:
    class LikesTheFirst(SeesFacesEverywhere):
        def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
            probability, *others = super().run(inputs)
            first = np.zeros_like(probability)
            first[:, 0, 0] = 1
            return [first, *others]

    side = 9 * (TILE - CELL + STRIDE)
    stage = ProposalStage(LikesTheFirst(), LetsPass())
    found = stage.propose([np.zeros((side, side, 3), np.uint8)], CELL, 0.005, threshold=0.6)
    assert len(found.squares) == 81 > TILES_AT_ONCE


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_peaks_are_what_non_maximum_suppression_at_a_half_keeps(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows, columns = random.permutation(np.argwhere(random.random((20, 30)) < 0.4)).T
    scores = np.sort(random.uniform(0.6, 1, len(rows)).astype(np.float32))[::-1]
    corners = np.stack([columns, rows], axis=1) * STRIDE
    boxes = np.hstack([corners, corners + CELL]).astype(np.float32)
    assert peaks(rows, columns) == suppress(boxes, scores, 0.5).tolist()


@pytest.mark.parametrize("shape", [(40, 50), (2 * TILE, TILE + 30)])
def test_surroundings_are_the_responses_around_a_candidate(
    sessions: dict[str, Session], astronaut: UInt8Array, shape: tuple[int, int]
) -> None:
    """One level, of one tile and of several, in which a response is nothing beyond the last window."""
    pixels = np.ascontiguousarray(astronaut[: shape[0], : shape[1]])
    stage = ProposalStage(sessions["pnet"], LetsPass())
    probability, _, response = sessions["pnet"].run({"image": pixels[None]})
    padded = np.pad(response[0], ((AROUND, AROUND), (AROUND, AROUND), (0, 0)))
    found = stage.propose([pixels], 1.1 * CELL, 0.01, threshold=0.2)
    assert len(found.squares)
    for score, window in zip(found.scores, found.surroundings, strict=True):
        row, column = np.unravel_index(np.abs(probability[0] - score).argmin(), probability[0].shape)
        assert np.array_equal(window, padded[row : row + 7, column : column + 7])


def test_levels_do_not_touch_on_the_canvas(sessions: dict[str, Session], astronaut: UInt8Array) -> None:
    """All levels together propose what each proposes alone."""
    stage, halvings = ProposalStage(sessions["pnet"], LetsPass()), halve(astronaut)
    together = stage.propose(halvings, 40, 0.65, threshold=0.6)
    alone = joined([stage.propose(halvings, 40 / 0.65**level, 0.01, threshold=0.6) for level in range(7)])
    alone = rows_at(alone, np.argsort(-alone.scores, kind="stable"))
    assert len(together.scores) > 20
    for found, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_unpromising_candidates_stop_at_the_filter(
    sessions: dict[str, Session], astronaut: UInt8Array
) -> None:
    def squares(promise: float) -> NDArray[np.float32]:
        stage = ProposalStage(sessions["pnet"], LetsPass(promise))
        return stage.find(halve(astronaut), 40, 0.709, 0.6).squares

    assert len(squares(LEAST_PROMISE))
    assert not len(squares(0.9 * LEAST_PROMISE))


@pytest.mark.parametrize("smallest", [20, 25, 30, 35, 40, 45, 50, 60, 70])
def test_filter_expects_most_of_the_face(
    sessions: dict[str, Session], golden: Golden, astronaut: UInt8Array, smallest: int
) -> None:
    stage, options = ProposalStage(sessions["pnet"], sessions["filter"]), DetectionParameters(smallest)
    found = stage.find(halve(astronaut), smallest, options.pyramid_factor, options.thresholds[0])
    on_face = overlap(found.squares, golden["facenet_box"].astype(np.float32))[:, 0] > 0.5
    assert found.promise[on_face].max() > 0.5
    assert found.promise[on_face].max() > found.promise[~on_face].max()


@pytest.mark.parametrize("side", [12, 13, TILE - 1, TILE, TILE + 1, TILE + 2, 2 * TILE, 1000])
def test_tiles_share_no_window_and_miss_none(side: int) -> None:
    def windows(length: int, start: int = 0) -> list[int]:
        return [start + 2 * index for index in range((length - 1) // 2 - 4)]

    found = list(tiles(np.zeros((side, CELL, 3), np.uint8), top=7))
    assert not any(tile.column for tile in found)
    covered = [row for tile in found for row in windows(len(tile.pixels), STRIDE * (tile.row - 7))]
    assert covered == windows(side)
