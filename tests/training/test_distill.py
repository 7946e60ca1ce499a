from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from service.vision.boxes import overlap, regress
from service.vision.pyramid import halve
from service.vision.types import UInt8Array
from training.mtcnn.build import BUILDERS, load_weights
from training.mtcnn.crops import lit_too
from training.mtcnn.distill import PLANS, answered, calibrate, learn, loss, pixels, write
from training.mtcnn.students import SmallPNet, SmallRNet, begin
from training.mtcnn.teacher import KNOWN, KNOWN_LOGIT, SHOWN_CROPS, Examples, Teacher, corrected
from training.mtcnn.tiles import SIDE, TWICE, Painter, alone, piece, tiles
from training.scenes import Graph

ASTRONAUT = Path(__file__).parents[1] / "data" / "astronaut.jpg"
Make = Callable[[], SmallPNet | SmallRNet]


@pytest.fixture(scope="module")
def portrait() -> UInt8Array:
    read = cv2.imread(str(ASTRONAUT))
    assert read is not None
    return np.ascontiguousarray(read[:, :, ::-1], np.uint8)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher()


@pytest.fixture(scope="module")
def faces(portrait: UInt8Array) -> UInt8Array:
    face = cv2.cvtColor(portrait[60:174, 165:279], cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(face, (48, 48)), np.uint8)[None]


@pytest.fixture(scope="module")
def drawn(teacher: Teacher, portrait: UInt8Array, faces: UInt8Array) -> Examples:
    return tiles(teacher, [portrait], faces, 60)


@pytest.fixture(scope="module")
def cut_out(teacher: Teacher, portrait: UInt8Array) -> Examples:
    return teacher.crops(portrait, np.random.default_rng(0))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_teacher_sees_the_portraits_face_in_a_tile(teacher: Teacher, portrait: UInt8Array) -> None:
    tile = teacher.tile(piece(portrait, 222, 117, 500), 1.5)
    assert tile.pixels.shape == (1, SIDE, SIDE, 3)
    assert tile.logits.shape == tile.verdicts.shape == tile.boxes.shape[:-1] == (1, 33, 33)
    rows, columns = np.nonzero(tile.verdicts[0] > 0.7)
    x, y = (2 * columns.mean() + 6, 2 * rows.mean() + 6)
    assert abs(x - SIDE / 2) < 3
    assert abs(y - SIDE / 2) < 3


def test_crops_are_the_cascades_candidates(cut_out: Examples) -> None:
    assert cut_out.pixels.shape[1:] == (24, 24, 3)
    assert len(cut_out.pixels) == len(cut_out.logits) == len(cut_out.boxes) == len(cut_out.verdicts)
    faces = (cut_out.logits > 1) & (cut_out.verdicts > 0.7)
    assert 0 < faces.sum() < len(faces)


def test_a_flat_picture_gives_no_crops(teacher: Teacher) -> None:
    none = teacher.crops(np.full((100, 100, 3), 128, np.uint8), np.random.default_rng(0))
    assert none.pixels.shape == (0, 24, 24, 3)
    assert none.boxes.shape == (0, 4)


def test_tiles_follow_the_seed(teacher: Teacher, portrait: UInt8Array, faces: UInt8Array) -> None:
    def draw(seed: int) -> UInt8Array:
        painter = Painter([portrait], [teacher.spots(portrait)], faces, np.random.default_rng(seed))
        return np.stack([painter.draw()[0] for _ in range(8)])

    assert draw(1).shape == (8, TWICE, TWICE, 3)
    assert np.array_equal(draw(1), draw(1))
    assert not np.array_equal(draw(1), draw(2))


def test_a_picture_without_spots_has_tiles_too(faces: UInt8Array) -> None:
    flat = np.full((40, 60, 3), 90, np.uint8)
    painter = Painter([flat], [np.empty((0, 3), np.float32)], faces, np.random.default_rng(0))
    assert {painter.draw()[0].shape for _ in range(8)} == {(TWICE, TWICE, 3)}


def test_a_tiles_frames_show_the_faces_that_were_put_into_it(teacher: Teacher, faces: UInt8Array) -> None:
    flat = np.full((40, 60, 3), 90, np.uint8)
    painter = Painter([flat], [np.empty((0, 3), np.float32)], faces, np.random.default_rng(0))
    drawn = [painter.draw() for _ in range(20)]
    large = [(tile, [frame]) for tile, frames in drawn for frame in frames if frame[2] - frame[0] > 40]
    assert len(large) > 3
    assert sum(len(teacher.known(halve(tile), frames)) for tile, frames in large) > 0.8 * len(large)


def test_the_teacher_frames_the_faces_of_a_photo(teacher: Teacher, portrait: UInt8Array) -> None:
    (frame,) = teacher.faces(portrait)
    assert overlap(np.array([frame], np.float32), np.array([[165, 60, 279, 174]], np.float32)).item() > 0.6
    assert frame[2] - frame[0] == pytest.approx(frame[3] - frame[1])
    assert teacher.faces(portrait[300:, :100]) == []


def test_a_face_alone_fills_its_frame() -> None:
    random = np.random.default_rng(0)
    white = np.full((48, 48), 255, np.uint8)
    for _ in range(20):
        picture, (x1, y1, x2, y2) = alone(white, random)
        assert x2 - x1 == y2 - y1
        assert (picture[int(y1) : int(y2), int(x1) : int(x2)] == 255).all()
        assert picture.shape[0] >= y2
        assert picture.shape[1] >= x2


def test_of_known_faces_those_remain_that_onet_knows(teacher: Teacher, portrait: UInt8Array) -> None:
    face, sky = (165.0, 60.0, 279.0, 174.0), (10.0, 10.0, 90.0, 90.0)
    boxes = teacher.known(halve(portrait), [sky, face])
    assert len(boxes) == 1
    assert overlap(boxes, np.array([face], np.float32)).item() > 0.6
    assert teacher.known(halve(portrait), []).shape == (0, 4)


def test_a_refused_window_of_a_known_face_is_corrected() -> None:
    windows = np.array([[0, 0, 12, 12], [1, 0, 13, 12], [40, 40, 52, 52]], np.float32)
    answers = Examples(
        np.zeros((3, 24, 24, 3), np.uint8),
        np.array([-3, 4, -3], np.float16),
        np.zeros((3, 4), np.float16),
        np.array([0, 0.9, 0], np.float16),
    )
    box = np.array([[1.2, 0, 10.8, 12]], np.float32)
    better = corrected(answers, windows, box)
    assert better.logits.tolist() == [KNOWN_LOGIT, 4, -3]
    assert better.verdicts.tolist() == pytest.approx([KNOWN, 0.9, 0], abs=1e-3)
    np.testing.assert_allclose(regress(windows[:1], better.boxes[:1].astype(np.float32)), box, atol=0.01)
    assert not better.boxes[1:].any()
    assert answers.logits.tolist() == [-3, 4, -3]


def test_crops_of_a_known_face_lie_about_it(teacher: Teacher, portrait: UInt8Array) -> None:
    frame = (165.0, 60.0, 279.0, 174.0)
    without, with_it = (teacher.crops(portrait, np.random.default_rng(0), frames) for frames in ([], [frame]))
    assert len(with_it.pixels) == len(without.pixels) + SHOWN_CROPS
    assert (with_it.verdicts[-SHOWN_CROPS:] > 0.7).all()


@pytest.mark.parametrize(("x", "y"), [(0, 0), (99, 59), (-500, 30)])
def test_a_piece_goes_on_beyond_the_picture(x: float, y: float) -> None:
    flat = np.full((60, 100, 3), 77, np.uint8)
    assert (piece(flat, x, y, 50) == 77).all()


def test_every_picture_is_seen_in_another_light(portrait: UInt8Array) -> None:
    one, other = lit_too([portrait], np.random.default_rng(0))
    assert np.array_equal(one, portrait)
    assert one.shape == other.shape
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("side", [(12, 12), (13, 17), (20, 33)])
def test_students_have_the_windows_of_the_published_network(side: tuple[int, int], tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, *side, 3), np.uint8)
    write(SmallPNet(), tmp_path / "pnet.onnx", image)  # asserts that the graph says what PyTorch says
    small = Graph(tmp_path / "pnet.onnx").run({"image": image})
    published = Graph(BUILDERS["pnet"](load_weights("pnet"))).run({"image": image})
    assert [output.shape for output in small] == [output.shape for output in published]
    assert [output.dtype for output in small] == [output.dtype for output in published]


def test_small_rnets_graph_says_what_it_says(tmp_path: Path, cut_out: Examples) -> None:
    write(SmallRNet(), tmp_path / "rnet.onnx", cut_out.pixels[:20])
    assert [output.shape for output in Graph(tmp_path / "rnet.onnx").run({"crops": cut_out.pixels[:20]})] == [
        (20,),
        (20, 4),
    ]


def distance(student: SmallPNet | SmallRNet, shown: Examples) -> float:
    """How much larger the student's loss is than that of the published network's own answers."""
    own = (torch.from_numpy(shown.logits).float(), torch.from_numpy(shown.boxes).float())
    return (loss(answered(student, shown), shown) - loss(own, shown)).item()


@pytest.mark.parametrize("make", [SmallPNet, SmallRNet])
def test_students_begin_with_what_the_published_network_knows(
    make: Make, drawn: Examples, cut_out: Examples
) -> None:
    student, shown = make(), (drawn if make is SmallPNet else cut_out)
    begin(student, lambda: pixels(shown)[: 12 if make is SmallPNet else 64], 300)
    logits = answered(student, shown)[0].numpy()
    assert np.corrcoef(logits.ravel(), shown.logits.ravel())[0, 1] > 0.5


@pytest.mark.parametrize("make", [SmallPNet, SmallRNet])
def test_students_learn(make: Make, drawn: Examples, cut_out: Examples) -> None:
    student, shown = make(), (drawn if make is SmallPNet else cut_out)
    before = distance(student, shown)
    plan = replace(PLANS[student.published], steps=300, batch=8, stem_batch=8, stem_steps=50)
    learn(student, shown, plan)
    assert distance(student, shown) < 0.5 * before


def test_the_answer_to_a_face_matters_most() -> None:
    def wrong_at(index: int) -> float:
        """The loss where one answer of three is off: to a face, to what R-Net refuses, to anything else."""
        wanted = np.array([2, 2, -4], np.float16)
        learned = Examples(
            np.zeros((3, 24, 24, 3), np.uint8),
            wanted,
            np.zeros((3, 4), np.float16),
            np.array([1, 0, 0], np.float16),
        )
        logits = torch.from_numpy(wanted).float()
        logits[index] += 1
        return loss((logits, torch.zeros(3, 4)), learned).item()

    assert wrong_at(0) > wrong_at(1) > wrong_at(2)


def test_calibration_lets_the_wanted_share_of_faces_pass(cut_out: Examples) -> None:
    student = SmallRNet()
    calibrate(student, cut_out, 0.7, 0.8)
    faces = (cut_out.logits > np.log(0.7 / 0.3)) & (cut_out.verdicts > 0.7)
    passed = torch.sigmoid(answered(student, cut_out)[0]).numpy()[faces] > 0.7
    assert passed.mean() == pytest.approx(0.8, abs=1.5 / len(passed))


def test_faces_that_the_published_network_refuses_do_not_shift_a_student(cut_out: Examples) -> None:
    student = SmallRNet()
    refused = np.flatnonzero(cut_out.logits < 0)
    logits, verdicts = cut_out.logits.copy(), cut_out.verdicts.copy()
    logits[refused], verdicts[refused] = KNOWN_LOGIT, KNOWN
    known = cut_out._replace(logits=logits, verdicts=verdicts)
    assert calibrate(student, cut_out, 0.7, 0.8) != 0
    assert calibrate(student, known, 0.7, 0.8) == pytest.approx(0, abs=1e-5)
