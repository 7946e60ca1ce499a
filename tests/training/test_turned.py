from pathlib import Path

import cv2
import numpy as np
import pytest

from service.vision.pyramid import halve
from service.vision.types import UInt8Array
from training.mtcnn.teacher import Teacher
from training.mtcnn.turned import LEAN, leaning, turned, turned_photos

ASTRONAUT = Path(__file__).parents[1] / "data" / "astronaut.jpg"


def dot(x: int, y: int) -> UInt8Array:
    picture = np.zeros((120, 160, 3), np.uint8)
    cv2.circle(picture, (x, y), 6, (255, 255, 255), -1)
    return picture


@pytest.mark.parametrize("degrees", [-45, -10, 30])
def test_frames_go_where_their_faces_go(degrees: float) -> None:
    picture, ((x1, y1, x2, y2),) = turned(dot(100, 40), [(90, 30, 110, 50)], degrees)
    rows, columns = np.nonzero(picture[:, :, 0] > 128)
    assert picture.shape == (120, 160, 3)
    assert (x1 + x2) / 2 == pytest.approx(columns.mean(), abs=1)
    assert (y1 + y2) / 2 == pytest.approx(rows.mean(), abs=1)
    assert (x2 - x1, y2 - y1) == pytest.approx((20, 20))


def test_faces_that_leave_the_picture_are_forgotten() -> None:
    assert turned(dot(150, 110), [(140, 100, 160, 120)], 45)[1] == []


def test_of_a_turned_portrait_the_face_is_known() -> None:
    teacher = Teacher()
    portrait = np.asarray(cv2.imread(str(ASTRONAUT)), np.uint8)[:, :, ::-1].copy()
    shown = list(turned_photos(teacher, [portrait], np.random.default_rng(0), 4))
    assert len(shown) == 4
    assert len({picture.tobytes() for picture, _ in shown}) == 4
    for picture, frames in shown:
        assert len(teacher.known(halve(picture), frames, 0.05)) == len(frames) == 1


def test_photos_lean_to_both_sides() -> None:
    random = np.random.default_rng(0)
    drawn = np.array([leaning(random) for _ in range(50)])
    assert {-1, 1} == set(np.sign(drawn))
    assert (np.abs(drawn) >= LEAN[0]).all()
    assert (np.abs(drawn) <= LEAN[1]).all()
