from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.vision.emotion import EmotionClassifier
from service.vision.located import Located, to_faces
from service.vision.types import Face
from training import manifest
from training.data import Faces
from training.evaluate import STORE
from training.manifest import StoreError
from training.record_golden import PHOTO, golden_inputs
from training.robustness import CURVES, Outcome, measure, outcome, study, text, widened
from training.scenes import Condition, background, best_match, load_detector, overlap, paste, scenes

from .helpers import faces

# (16, 48, 48): four framings of a face, mirrored too, and noise
PORTRAIT = golden_inputs(PHOTO)


def face(x1: float, y1: float, x2: float, y2: float) -> Face:
    box = np.array([[x1, y1, x2, y2]], np.float32)
    landmarks = np.zeros((1, 5, 2), np.float32)
    located = Located(box, np.ones(1, np.float32), landmarks, box, np.zeros(1, np.intp))
    return to_faces(located, 1.0, 200, 200, windows=box)[0]


class Brightness:
    """A classifier that says `happy` of bright crops and `sad` of dark ones."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        bright = inputs["crops"].mean(axis=(1, 2, 3)) > 127
        return [np.eye(7, dtype=np.float32)[np.where(bright, 3, 4)]]


@pytest.mark.parametrize("side", [16, 48, 96])
def test_a_pasted_face_is_where_the_scene_says(side: int) -> None:
    white = np.full((1, 48, 48), 255, np.uint8)
    ((image, (x1, y1, x2, y2)),) = scenes(white, Condition(side=side))
    assert x2 - x1 == pytest.approx(side)
    inside = image.pixels[round(y1) + 2 : round(y2) - 2, round(x1) + 2 : round(x2) - 2]
    assert inside.min() == 255
    assert 0 <= x1 < x2 <= image.width
    assert 0 <= y1 < y2 <= image.height
    assert image.pixels[:, : round(x1) - 2].min() < 255


def test_a_store_without_a_detector_is_told(tmp_path: Path) -> None:
    manifest.update(tmp_path, "emotion", {"fast": {}})
    with pytest.raises(StoreError, match=r"has no detector \(pnet, filter, rnet, onet\): export into a copy"):
        load_detector(tmp_path)


def test_scenes_repeat_under_their_seed() -> None:
    one, again = ([image.pixels for image, _ in scenes(faces(2).images, Condition(blur=1))] for _ in "ab")
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    other = [image.pixels for image, _ in scenes(faces(2).images, Condition(blur=1), seed=1)]
    assert not np.array_equal(one[0], other[0])


def test_a_quarter_turn_turns_the_face() -> None:
    image = np.zeros((48, 48), np.uint8)
    image[:, 24:] = 255
    random = np.random.default_rng(0)
    pixels, (x1, y1, x2, y2) = paste(image, background(192, random), Condition(rotation=90), random)
    middle, x = round((y1 + y2) / 2), round((x1 + x2) / 2)
    assert pixels[middle - 20, x, 0] == 255  # anticlockwise: what was right is now above
    assert pixels[middle + 20, x, 0] == 0


def test_overlap_and_the_best_match() -> None:
    assert overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 2, 2), (2, 0, 3, 2)) == 0
    near, far = face(10, 10, 60, 60), face(100, 100, 150, 150)
    assert best_match((far, near), (12, 12, 62, 62)) == near
    assert best_match((far,), (12, 12, 62, 62)) is None
    assert best_match((), (12, 12, 62, 62)) is None


def test_a_small_face_within_its_image_is_found() -> None:
    square = (0, 0, 100, 100)
    small, half_outside, an_eye = face(30, 20, 75, 70), face(60, 20, 120, 80), face(30, 30, 50, 50)
    assert best_match((small, an_eye), square) == small
    assert best_match((half_outside, an_eye), square) is None


def test_a_margin_grows_the_box_about_its_centre() -> None:
    assert widened(face(10, 20, 60, 70), 0.2).region == pytest.approx((5, 15, 65, 75))


class Keeper:
    """A classifier that keeps what it is shown."""

    def __init__(self) -> None:
        self.shown: list[NDArray[Any]] = []

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        self.shown += [inputs["crops"]]
        return [np.eye(7, dtype=np.float32)[np.zeros(len(inputs["crops"]), int)]]


def test_a_margin_shows_the_classifier_more() -> None:
    keeper, some = Keeper(), Faces(PORTRAIT[:1], np.zeros(1, np.int64), np.zeros((1, 10), np.float32))
    for margin in (0.0, 0.4):
        measure(load_detector(STORE), EmotionClassifier(keeper, 0.5), some, Condition(margin=margin))
    close, wide = keeper.shown
    assert not np.array_equal(close, wide)


def test_a_study_is_of_all_faces_that_the_label_set_names_found_or_not() -> None:
    # Framings of one smiling face, of which voters call the last something else or nothing, and noise.
    images = np.stack([PORTRAIT[0], PORTRAIT[8], PORTRAIT[1], PORTRAIT[2], PORTRAIT[3]])
    votes = np.zeros((5, 10), np.float32)
    votes[[0, 1, 2], 1] = votes[3, 3] = 10
    some = Faces(images, np.zeros(5, np.int64), votes)
    found = study(STORE, "ferplus", some, "some split", curve_images=1)
    assert (found["images"], found["found"], found["original_accuracy"], found["accuracy"]) == (
        4,
        0.75,
        0.5,
        0.5,
    )
    assert (found["curve_images"], found["curve_original_accuracy"]) == (1, 1)
    points = {(point["curve"], point[point["curve"]]): point for point in found["curves"]}
    assert points.keys() == {(curve, value) for curve, values in CURVES.items() for value in values}
    assert [points["blur", blur]["found"] for blur in (0.0, 3.0)] == [1, 0]
    assert points["side", 96]["accuracy"] == 1
    lines = text(found).splitlines()
    assert lines[0] == "ferplus on 4 images of the some split"
    assert lines[2].split()[-3:] == ["50.00%,", "75.00%", "found"]
    assert "  blur           3  0.00%, 0.00% found" in lines


def test_a_face_that_is_not_found_counts_as_wrong() -> None:
    classifier = EmotionClassifier(Brightness(), 0.5)
    crops = [np.full((48, 48), value, np.uint8) for value in (250, 5, 5)]
    assert outcome(classifier, crops, [3, 4, 3], total=4) == Outcome(found=0.75, accuracy=0.5)
    assert outcome(classifier, [], [], total=4) == Outcome(0, 0)
