"""Faces that lie on each other or outside the image."""

import tracemalloc

import numpy as np

from service.vision.located import Located, apart, to_faces
from service.vision.mtcnn import away
from service.vision.types import Box


def test_landmarks_are_what_the_squares_that_fit_best_show() -> None:
    box = np.array([[10, 10, 30, 30]], np.float32)
    windows = np.array([[10, 10, 30, 30], [16, 10, 36, 30], [90, 90, 99, 99]], np.float32)
    shown = np.array([5.0, 9.0, 99.0], np.float32)
    scores = np.array([0.8, 0.9, 0.9], np.float32)
    found = Located(
        np.repeat(box, 3, axis=0), scores, np.tile(shown[:, None, None], (1, 5, 2)), windows, np.arange(3)
    )
    face = apart(found)
    assert len(face.boxes) == 1
    assert (face.landmarks > 5).all()
    assert (face.landmarks < 6).all()


def located(*boxes: tuple[float, float, float, float]) -> Located:
    """Faces at these places, the likeliest first, each in a window of its own, told apart by landmarks."""
    corners, count = np.array(boxes, np.float32), len(boxes)
    scores = np.linspace(0.9, 0.8, count, dtype=np.float32)
    marks = np.tile(np.arange(count, dtype=np.float32)[:, None, None], (1, 5, 2))
    return Located(corners, scores, marks, corners, np.arange(count))


def test_a_face_within_a_face_is_one() -> None:
    # A sixth of their union, but all of the smaller one.
    assert apart(located((0, 0, 100, 100), (30, 30, 70, 70))).candidates.tolist() == [0]


def test_of_landmarks_those_count_more_that_onet_is_sure_of() -> None:
    found = located((10, 10, 30, 30), (10.5, 10, 30.5, 30))
    face = apart(found._replace(scores=np.array([0.9, 0.3], np.float32)))
    assert (face.landmarks < 0.3).all()


def test_a_face_outside_the_square_that_showed_it_has_landmarks() -> None:
    found = located((0, 0, 100, 100), (200, 0, 300, 100))
    assert apart(found._replace(windows=found.windows + 500)).landmarks[:, 0, 0].tolist() == [0, 1]


def test_faces_that_touch_keep_their_own_landmarks() -> None:
    faces = apart(located((0, 0, 100, 100), (60, 0, 160, 100)))
    assert faces.landmarks[:, 0, 0].tolist() == [0, 1]


def test_a_crowd_takes_no_memory_for_each_two_of_it() -> None:
    boxes = [(12.0 * x, 12.0 * y, 12.0 * x + 12, 12.0 * y + 12) for x in range(40) for y in range(40)]
    crowd = located(*boxes)
    tracemalloc.start()
    try:
        faces, alone = apart(crowd), away(crowd.boxes, crowd.boxes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(faces.boxes) == len(crowd.boxes)
    assert (faces.landmarks == crowd.landmarks).all()
    assert not alone.any()
    assert peak < 4 * len(boxes) ** 2  # one float for each pair


def test_a_face_outside_the_image_is_none() -> None:
    found = located((10, 10, 30, 30), (-40, 10, -20, 30), (10, 99.8, 30, 120))
    faces = to_faces(found, 1.0, 100, 100, windows=found.windows)
    assert [face.region for face in faces] == [(10, 10, 30, 30)]


def test_the_box_alone_is_moved_by_a_pixel_that_the_networks_were_shown() -> None:
    """Of the image, here decoded at half its size, or of O-Net's input; the crop is cut where it was."""
    found = located((10, 20, 30, 50), (100, 0, 196, 90))
    large, small = to_faces(found, 0.5, 390, 200, windows=found.windows)
    assert small.box == Box(22, 42, 40, 60)
    assert small.region == (20, 40, 60, 100)
    assert large.box == Box(204, 4, 390 - 204, 180)
    assert large.region == (200, 0, 392, 180)
