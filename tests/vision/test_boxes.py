from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from service.vision.boxes import Overlap, areas, carried, clip, overlap, regress, square, suppress
from service.vision.types import Float32Array


def random_boxes(count: int, seed: int = 0) -> Float32Array:
    random = np.random.default_rng(seed)
    corners, sides = random.uniform(0, 100, (count, 2)), random.uniform(1, 40, (count, 2))
    return np.hstack([corners, corners + sides]).astype(np.float32)


def brute_force(
    boxes: Float32Array, scores: Float32Array, threshold: float, mode: Overlap, better: int = 1
) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        shares = [share(boxes[index].tolist(), boxes[other].tolist(), mode) for other in kept]
        if sum(value > threshold for value in shares) < better:
            kept.append(index)
    return kept


def share(one: list[float], other: list[float], mode: Overlap) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    own, theirs = ((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (own + theirs - shared if mode == "union" else min(own, theirs))


@pytest.mark.parametrize("mode", ["union", "min"])
@pytest.mark.parametrize(("count", "threshold"), [(0, 0.5), (1, 0.5), (64, 0.3), (65, 0.5), (400, 0.7)])
def test_suppression_keeps_what_a_plain_loop_keeps(mode: Overlap, count: int, threshold: float) -> None:
    boxes = random_boxes(count)
    scores = np.random.default_rng(1).permutation(count).astype(np.float32)
    assert suppress(boxes, scores, threshold, mode).tolist() == brute_force(boxes, scores, threshold, mode)


@pytest.mark.parametrize("better", [2, 3])
def test_a_box_may_overlap_fewer_better_ones_than_it_takes(better: int) -> None:
    boxes, scores = random_boxes(200), np.random.default_rng(1).permutation(200).astype(np.float32)
    kept = suppress(boxes, scores, 0.3, better=better).tolist()
    assert kept == brute_force(boxes, scores, 0.3, "union", better)
    assert len(kept) > len(suppress(boxes, scores, 0.3))


def test_suppression_is_stable_for_equal_scores() -> None:
    boxes = np.repeat(random_boxes(1), 3, axis=0)
    assert suppress(boxes, np.ones(3, np.float32), 0.5).tolist() == [0]
    scores = np.repeat(np.array([1, 2], np.float32), 50)
    assert suppress(random_boxes(100), scores, 1).tolist() == [*range(50, 100), *range(50)]


def test_overlap_of_known_boxes() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 20, 20, 30]], np.float32)
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [0, 0, 5, 5], [10, 0, 20, 10]], np.float32)
    union = np.array([[1, 1 / 3, 1 / 4, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(overlap(boxes, others), union, rtol=1e-6)
    smaller = np.array([[1, 1 / 2, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(overlap(boxes, others, "min"), smaller, rtol=1e-6)


def test_overlap_is_symmetric_and_within_one() -> None:
    boxes = random_boxes(50)
    table = overlap(boxes, boxes)
    np.testing.assert_allclose(table, table.T)
    np.testing.assert_allclose(np.diagonal(table), 1)
    assert table.min() >= 0


def test_square_keeps_centre_and_longer_side() -> None:
    boxes = random_boxes(20)
    squares = square(boxes)
    sides = squares[:, 2:] - squares[:, :2]
    np.testing.assert_allclose(sides[:, 0], (boxes[:, 2:] - boxes[:, :2]).max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(sides[:, 0], sides[:, 1], rtol=1e-5)
    np.testing.assert_allclose(squares[:, :2] + squares[:, 2:], boxes[:, :2] + boxes[:, 2:], rtol=1e-5)


def test_regression_moves_corners_in_units_of_the_box() -> None:
    boxes = np.array([[10, 20, 30, 60]], np.float32)
    offsets = np.array([[0.1, -0.1, 0.5, 0.25]], np.float32)
    np.testing.assert_allclose(regress(boxes, offsets), [[12, 16, 40, 70]])


@pytest.mark.parametrize("size", [(1, 1), (50, 70), (120, 3)])
def test_clipped_boxes_lie_inside_or_are_empty(size: tuple[int, int]) -> None:
    boxes = random_boxes(200) - 20
    clipped: NDArray[np.int64] = clip(boxes, *size)
    for low, high in pairwise((np.zeros(2), clipped[:, :2], clipped[:, 2:], np.array(size))):
        assert (low <= high).all()


def test_clipped_boxes_are_rounded() -> None:
    boxes = np.array([[-3, 2.4, 7.6, 30]], np.float32)
    assert clip(boxes, 10, 20).tolist() == [[0, 2, 8, 20]]


def test_area_of_a_turned_box_is_zero() -> None:
    assert areas(np.array([[5, 5, 1, 9]], np.float32)).tolist() == [0]


def test_a_window_moves_and_grows_with_its_box() -> None:
    windows = np.array([[0, 1, 20, 21], [0, 1, 20, 21]], np.float32)
    before = np.array([[4, 6, 16, 18], [4, 6, 16, 18]], np.float32)
    after = np.array([[4, 6, 16, 18], [100, 100, 118, 132]], np.float32)  # of four times the area
    expected = [[0, 1, 20, 21], [89, 94, 129, 134]]
    np.testing.assert_allclose(carried(windows, before, after), expected, rtol=1e-6)
