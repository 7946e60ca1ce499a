from pathlib import Path

import cv2
import numpy as np
import pytest

from service.vision.types import UInt8Array
from training.mtcnn.filter import (
    FACE_WEIGHT,
    Cascade,
    Examples,
    Perceptron,
    build,
    joined,
    judgement,
    probabilities,
    train,
    weights,
    write,
)
from training.mtcnn.pictures import STORE

ASTRONAUT = Path(__file__).parents[1] / "data" / "astronaut.jpg"


def candidates(number: int, seed: int = 0) -> UInt8Array:
    return np.random.default_rng(seed).integers(0, 256, (number, 7, 7, 5), np.uint8)


def test_the_cascade_tells_which_candidates_become_the_portraits_face() -> None:
    portrait = cv2.imread(str(ASTRONAUT))
    assert portrait is not None
    found = Cascade(STORE).examples(np.ascontiguousarray(portrait[:, :, ::-1], np.uint8))
    assert found.number_of_faces == 1
    assert 1 < (found.faces == 0).sum() < len(found.faces)


def test_flat_pictures_give_no_examples() -> None:
    found = Cascade(STORE).examples(np.full((100, 100, 3), 128, np.uint8))
    assert found.surroundings.shape == (0, 7, 7, 5)
    assert found.number_of_faces == 0


def test_faces_of_different_pictures_stay_apart() -> None:
    one = Examples(candidates(3), np.array([0, -1, 1]))
    two = Examples(candidates(2), np.array([0, -1]))
    both = joined([one, Examples(candidates(0), np.array([], np.intp)), two])
    assert both.faces.tolist() == [0, -1, 1, 2, -1]
    assert len(both.surroundings) == 5


def test_every_face_counts_alike_however_many_candidates_it_has() -> None:
    examples = Examples(candidates(5), np.array([0, 0, 0, 1, -1]))
    counted = weights(examples)
    assert counted[:3].sum() == pytest.approx(FACE_WEIGHT)
    assert counted[3:].tolist() == [FACE_WEIGHT, 1]


def test_a_filter_learns_from_strong_responses_and_its_graph_says_the_same(tmp_path: Path) -> None:
    surroundings = candidates(1000)
    surroundings[::2, ..., 0] //= 2
    faces = np.full(1000, -1)
    faces[1::2] = np.arange(500)
    network = train(Examples(surroundings, faces), epochs=8)
    assert ((probabilities(network, surroundings) > 0.5) == (faces >= 0)).mean() > 0.95
    write(network, tmp_path / "filter.onnx", surroundings)
    assert build(network) == (tmp_path / "filter.onnx").read_bytes()


def test_judgement_counts_faces_not_candidates() -> None:
    examples = Examples(candidates(3), np.array([0, 0, -1]))
    assert judgement(Perceptron(), examples).startswith(
        "3 candidates become 1 faces\nat least 0.002: 3 pass, 1 faces"
    )
