"""The cascade as a whole, on photos and on networks that say what a test needs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from service.runtime.model_store import DETECTOR_GRAPHS
from service.vision.boxes import overlap
from service.vision.located import Located, apart
from service.vision.looks import RNET
from service.vision.mtcnn import (
    BETTER,
    CLOSE,
    LOOKS,
    MOST,
    ON_FACE,
    DetectionParameters,
    Mtcnn,
    away,
    default_min_face_size,
    going_first,
)
from service.vision.pipeline import AnalysisOptions, EmotionPipeline
from service.vision.proposals import MAX_CANDIDATES, Proposals, ProposalStage
from service.vision.pyramid import halve
from service.vision.types import DecodedImage, Face, Session, UInt8Array
from tests.vision.conftest import Golden
from tests.vision.networks import Counting, LetsPass, RefinesNothing, Says, SeesFacesEverywhere

# Thresholds that nearly everything passes.
EASY = (0.2, 0.02, 0.001)


def resized(pixels: UInt8Array, factor: float) -> UInt8Array:
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=interpolation), np.uint8)


def decoded(pixels: UInt8Array) -> DecodedImage:
    return DecodedImage(pixels, pixels.shape[1], pixels.shape[0], "png", 1)


def detect(
    detector: Mtcnn,
    pixels: UInt8Array,
    min_face_size: float = 40,
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
) -> tuple[Face, ...]:
    """The faces, each with a box inside the image and in the order of their size."""
    faces = detector.detect(decoded(pixels), DetectionParameters(min_face_size, thresholds))
    height, width = pixels.shape[:2]
    for box in (face.box for face in faces):
        assert box.x >= 0 <= box.y
        assert box.width > 0 < box.height
        assert box.x + box.width <= width
        assert box.y + box.height <= height
    sizes = [face.box.width * face.box.height for face in faces]
    assert sizes == sorted(sizes, reverse=True)
    return faces


def points(face: Face) -> NDArray[np.float64]:
    marks = face.landmarks
    ordered = (marks.left_eye, marks.right_eye, marks.nose, marks.mouth_left, marks.mouth_right)
    return np.array([(point.x, point.y) for point in ordered])


def regions(*faces: Face) -> NDArray[np.float32]:
    return np.array([face.region for face in faces], np.float32)


@pytest.mark.parametrize(("degrees", "size"), [(-75, 0.5), (75, 1)])
def test_onets_second_opinion_knows_a_head_that_lies_on_its_side(
    detector: Mtcnn, astronaut: UInt8Array, degrees: float, size: float
) -> None:
    middle = (222, 117)  # of the face
    turn = cv2.getRotationMatrix2D(middle, degrees, size)
    leaning = cv2.warpAffine(astronaut, turn, (512, 512), borderMode=cv2.BORDER_REPLICATE)
    (face,) = detect(detector, np.asarray(leaning, np.uint8))
    x1, y1, x2, y2 = face.region
    assert np.hypot((x1 + x2) / 2 - middle[0], (y1 + y2) / 2 - middle[1]) < 0.25 * (x2 - x1)


def test_landmarks_of_a_given_square_are_the_peers(
    detector: Mtcnn, golden: Golden, astronaut: UInt8Array
) -> None:
    for shown, expected in zip(golden["squares"], golden["mtcnn_squares_landmarks"], strict=True):
        located = detector._look([astronaut], shown[None], 0.0)
        distance = np.linalg.norm(located.landmarks[0] - expected, axis=1).mean()
        assert distance < 0.01 * (located.boxes[0, 2] - located.boxes[0, 0])


def test_a_square_that_is_proposed_twice_goes_on_once(detector: Mtcnn, astronaut: UInt8Array) -> None:
    halvings = halve(astronaut)
    once = np.array([[165, 65, 295, 195]], np.float32)
    squares = detector._refine(halvings, once, 0.3)
    assert len(squares) == 1
    np.testing.assert_array_equal(detector._refine(halvings, np.repeat(once, 2, axis=0), 0.3), squares)


def test_whole_cascade_finds_the_peers_face(detector: Mtcnn, golden: Golden, astronaut: UInt8Array) -> None:
    (face,) = detect(detector, astronaut, min_face_size=20)
    assert overlap(regions(face), golden["facenet_box"]).item() > 0.88
    # That package's own boxes and points are off by a pixel: it counts pixels from one, and numpy does not.
    assert overlap(regions(face), golden["mtcnn_box"]).item() > 0.82
    width = face.region[2] - face.region[0]
    for peer, least in (("facenet", 0.01), ("mtcnn", 0.03)):
        distance = np.linalg.norm(points(face) - golden[f"{peer}_landmarks"][0], axis=1).mean()
        assert distance < least * width


@pytest.mark.parametrize(("peer", "most"), [("facenet", 0.01), ("mtcnn", 0.03)])
def test_landmarks_are_the_peers_whatever_the_smallest_face(
    detector: Mtcnn, golden: Golden, astronaut: UInt8Array, peer: str, most: float
) -> None:
    for smallest in (30, 40, 60):
        (face,) = detect(detector, astronaut, smallest)
        distance = np.linalg.norm(points(face) - golden[f"{peer}_landmarks"][0], axis=1).mean()
        assert distance < most * (face.region[2] - face.region[0])


@pytest.mark.parametrize("factor", [0.4, 0.75, 1.0, 1.6, 3.0])
def test_face_is_found_at_every_scale(
    detector: Mtcnn, golden: Golden, astronaut: UInt8Array, factor: float
) -> None:
    (face,) = detect(detector, resized(astronaut, factor), min_face_size=30)
    assert overlap(regions(face) / np.float32(factor), golden["facenet_box"]).item() > 0.75
    assert np.abs(points(face) / factor - golden["facenet_landmarks"][0]).max() < 6


def test_boxes_are_in_full_pixels_when_decoded_at_a_reduced_scale(
    detector: Mtcnn, golden: Golden, astronaut: UInt8Array
) -> None:
    image = DecodedImage(resized(astronaut, 0.5), 512, 512, "jpeg", 1)
    (face,) = detector.detect(image, DetectionParameters(min_face_size=80))
    assert overlap(regions(face), golden["facenet_box"]).item() > 0.75
    assert np.abs(points(face) - golden["facenet_landmarks"][0]).max() < 6


def test_a_narrow_jpeg_has_the_boxes_of_its_png(pipeline: EmotionPipeline, astronaut: UInt8Array) -> None:
    strip = np.full((3600, 401, 3), 128, np.uint8)
    strip[3100:3500, :400] = resized(astronaut[20:220, 120:320], 2)
    options = AnalysisOptions(min_face_size=384)
    as_png, as_jpeg = (
        pipeline.decode(cv2.imencode(suffix, strip[:, :, ::-1])[1].tobytes(), options)
        for suffix in (".png", ".jpg")
    )
    assert (as_png.scale, as_jpeg.scale) == (1, 1 / 8)
    (png,), (jpeg,) = (pipeline.detect(image, options) for image in (as_png, as_jpeg))
    assert overlap(regions(png), regions(jpeg)).item() > 0.9


@pytest.mark.parametrize("degrees", [-20, -10, 10, 20])
def test_tilted_head_is_found_with_its_landmarks(
    detector: Mtcnn, golden: Golden, astronaut: UInt8Array, degrees: int
) -> None:
    turn = cv2.getRotationMatrix2D((223, 120), degrees, 1)
    tilted = np.asarray(cv2.warpAffine(astronaut, turn, (512, 512)), np.uint8)
    expected = golden["facenet_landmarks"][0] @ turn[:, :2].T + turn[:, 2]
    errors = [np.abs(points(face) - expected).max() for face in detect(detector, tilted)]
    assert min(errors) < 8


def covered(astronaut: UInt8Array) -> UInt8Array:
    """(200, 200, 3) the portrait cut close, gray from the hair to the eyes."""
    pixels = resized(astronaut[69:167, 174:272], 200 / 98)
    pixels[:90] = 128
    return pixels


def test_a_portrait_without_a_sure_face_is_looked_at_once_more(
    detector: Mtcnn, astronaut: UInt8Array
) -> None:
    (face,) = detect(detector, covered(astronaut))
    assert overlap(regions(face), np.array([[11, 0, 190, 200]], np.float32)).item() > 0.7


@pytest.mark.parametrize(("beside", "side", "turned"), [(0, 98, 50), (30, 120, 35)])
def test_the_second_look_asks_less_of_pnet_and_rnet(
    detector: Mtcnn, astronaut: UInt8Array, beside: int, side: int, turned: int
) -> None:
    """A head that leans, covered from the mouth down; R-Net is not sure of the first, P-Net of the second."""
    middle = np.array([223.0 + beside, 118.0])
    turn = np.asarray(cv2.getRotationMatrix2D(middle.tolist(), turned, 200 / side), np.float64)
    turn[:, 2] += 100 - middle
    pixels = np.asarray(cv2.warpAffine(astronaut, turn, (200, 200), flags=cv2.INTER_CUBIC), np.uint8)
    pixels[130:] = 128
    (face,) = detect(detector, pixels)
    x, y = turn @ (223, 118, 1)
    reach = 98 * 100 / side
    truth = np.array([[x - reach, y - reach, x + reach, y + reach]], np.float32)
    assert overlap(regions(face), truth).item() > 0.8


def test_a_part_of_a_larger_picture_is_not(detector: Mtcnn, astronaut: UInt8Array) -> None:
    pixels = np.full((900, 900, 3), 128, np.uint8)
    pixels[350:550, 350:550] = covered(astronaut)
    assert detect(detector, pixels) == ()


FACE = np.array([[165, 55, 285, 175]], np.float32)  # a square about the portrait's


def examine(sessions: dict[str, Session], pixels: UInt8Array, squares: Any, onet: Session) -> Located:
    detector = Mtcnn(sessions["pnet"], LetsPass(), RefinesNothing(), onet)
    return detector._examine(halve(pixels), squares, 0.7, accept=0.7)


@pytest.mark.parametrize(
    ("scores", "sure"),
    [
        ((0.35,), []),
        ((0.45, 0.75), []),
        ((0.45, 0.85), [0.85]),
        ((0.75, 0.45), []),
        ((0.75, 0.55), [0.75]),
        ((0.85,), [0.85]),
    ],
)
def test_onet_looks_again_where_it_is_in_doubt(
    sessions: dict[str, Session], astronaut: UInt8Array, scores: tuple[float, ...], sure: list[float]
) -> None:
    onet = Says(*scores, moves=0.1)
    located = examine(sessions, astronaut, FACE, onet)
    assert not onet.scores, "it was to look more often"
    assert located.scores == pytest.approx(sure)
    side = FACE[0, 2] - FACE[0, 0]
    assert located.boxes[:, 0] == pytest.approx([FACE[0, 0] + 0.1 * side * len(scores)] * len(sure))


@pytest.mark.parametrize(("beside", "sure"), [(0.6, [0.9]), (0.75, [0.9, 0.75])])
def test_onet_is_in_no_doubt_about_a_square_on_a_sure_face(
    sessions: dict[str, Session], astronaut: UInt8Array, beside: float, sure: list[float]
) -> None:
    squares = np.concatenate([FACE, FACE + 20])
    located = examine(sessions, astronaut, squares, Says([0.9, beside]))
    assert located.scores == pytest.approx(sure)


def look_closer(sessions: dict[str, Session], pixels: UInt8Array, onet: Session) -> Located:
    detector = Mtcnn(sessions["pnet"], LetsPass(), sessions["rnet"], onet)
    return detector._look_closer(halve(pixels), 40, DetectionParameters(40))


@pytest.mark.parametrize(("scores", "sure"), [((0.95, 0.6, 0.5), []), ((0.6, 0.95, 0.7), [0.75])])
def test_of_the_second_look_counts_what_onet_says_on_average(
    sessions: dict[str, Session], astronaut: UInt8Array, scores: tuple[float, ...], sure: list[float]
) -> None:
    located = look_closer(sessions, covered(astronaut), Says(*scores))
    assert apart(located).scores == pytest.approx(sure)


def test_each_time_onet_looks_at_the_box_that_it_gave(
    sessions: dict[str, Session], astronaut: UInt8Array
) -> None:
    still, moving = (
        look_closer(sessions, covered(astronaut), Says(*LOOKS * [0.9], moves=moves)) for moves in (0, 0.1)
    )
    sides = still.windows[:, 2] - still.windows[:, 0]
    np.testing.assert_allclose(
        moving.windows[:, 0] - still.windows[:, 0], 0.1 * (LOOKS - 1) * sides, rtol=1e-4
    )


def test_the_second_look_takes_no_more_than_so_many_crops(sessions: dict[str, Session]) -> None:
    onet = Counting(sessions["onet"])
    detector = Mtcnn(SeesFacesEverywhere(), LetsPass(), RefinesNothing(), onet)
    strip = np.random.default_rng(0).integers(0, 256, (60, 3000, 3), np.uint8)
    detector._look_closer(halve(strip), 12, DetectionParameters(12))
    assert 10 * LOOKS < sum(onet.counts) <= MOST * LOOKS


def test_the_second_look_keeps_to_the_smallest_face(detector: Mtcnn, astronaut: UInt8Array) -> None:
    assert detect(detector, covered(astronaut), min_face_size=400) == ()


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_turned_by_quarters_gives_valid_boxes(detector: Mtcnn, astronaut: UInt8Array, quarters: int) -> None:
    assert detect(detector, np.ascontiguousarray(np.rot90(astronaut, quarters)), thresholds=EASY)


def test_left_and_right_are_the_viewers(detector: Mtcnn, astronaut: UInt8Array) -> None:
    for pixels in (astronaut, np.ascontiguousarray(astronaut[:, ::-1])):
        (face,) = detect(detector, pixels)
        assert face.landmarks.left_eye.x < face.landmarks.nose.x < face.landmarks.right_eye.x
        assert face.landmarks.mouth_left.x < face.landmarks.mouth_right.x


@pytest.mark.parametrize(("side", "smallest"), [(128, 20), (512, 40)])
def test_of_a_photo_and_its_mirror_image_boxes_keep_to_neither_side(
    detector: Mtcnn, astronaut: UInt8Array, side: int, smallest: int
) -> None:
    aside = []
    for width in range(side, side + 64, 4):
        pixels = resized(astronaut, width / astronaut.shape[1])
        face, mirrored = (detect(detector, image, smallest)[0] for image in (pixels, pixels[:, ::-1]))
        box, other = face.box, mirrored.box
        aside.append((box.x + box.width / 2 + other.x + other.width / 2 - width) / 2 / box.width)
    assert abs(np.median(aside)) < 0.01


def test_every_tile_of_a_mosaic_has_its_face(detector: Mtcnn, astronaut: UInt8Array) -> None:
    faces = detect(detector, np.tile(resized(astronaut, 0.5), (2, 3, 1)), min_face_size=30)
    centres = {(int(x1 + x2) // 512, int(y1 + y2) // 512) for x1, y1, x2, y2 in regions(*faces).tolist()}
    assert len(faces) == 6
    assert centres == {(column, row) for column in range(3) for row in range(2)}


def test_larger_face_comes_first(detector: Mtcnn, astronaut: UInt8Array) -> None:
    scene = np.zeros((512, 768, 3), np.uint8)
    scene[:256, :256], scene[:, 256:] = resized(astronaut, 0.5), astronaut
    large, small = detect(detector, scene)
    assert large.box.x > 256 > small.box.x


@pytest.mark.parametrize("edges", [(0, 512, 200, 512), (0, 512, 0, 245), (90, 512, 0, 512)])
def test_face_cut_off_by_the_edge_keeps_inside(
    detector: Mtcnn, astronaut: UInt8Array, edges: tuple[int, int, int, int]
) -> None:
    top, bottom, left, right = edges
    assert detect(detector, np.ascontiguousarray(astronaut[top:bottom, left:right]), thresholds=EASY)


@pytest.mark.parametrize("size", [(1, 1), (11, 11), (1, 600), (600, 1), (11, 600), (12, 12), (13, 300)])
@pytest.mark.parametrize("min_face_size", [1, 40])
def test_tiny_images_have_no_face(
    detector: Mtcnn, astronaut: UInt8Array, size: tuple[int, int], min_face_size: float
) -> None:
    height, width = size
    pixels = np.asarray(cv2.resize(astronaut, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    assert detect(detector, pixels, min_face_size) == ()


@pytest.mark.parametrize("value", [0, 128, 255])
def test_flat_frames_have_no_face(detector: Mtcnn, value: int) -> None:
    assert detect(detector, np.full((240, 320, 3), value, np.uint8), min_face_size=20) == ()


def test_noise_gives_valid_boxes(detector: Mtcnn) -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    assert detect(detector, resized(coarse, 5), 12, thresholds=EASY)


def test_larger_minimum_leaves_small_faces_out(detector: Mtcnn, astronaut: UInt8Array) -> None:
    assert detect(detector, astronaut, min_face_size=300) == ()


def test_faces_below_the_last_threshold_are_left_out(detector: Mtcnn, astronaut: UInt8Array) -> None:
    strict = DetectionParameters(40, thresholds=(0.6, 0.7, 1.0))
    assert detector.detect(decoded(astronaut), strict) == ()


def test_stages_without_candidates_are_not_run(sessions: dict[str, Session]) -> None:
    counting = {name: Counting(session) for name, session in sessions.items()}
    detect(Mtcnn(*(counting[name] for name in DETECTOR_GRAPHS)), np.zeros((100, 100, 3), np.uint8))
    assert counting["pnet"].counts
    assert not any(counting[name].counts for name in DETECTOR_GRAPHS[1:])


@pytest.mark.parametrize("smallest", [20, 30, 40, 60])
def test_onet_sees_few_squares_of_a_place(
    sessions: dict[str, Session], detector: Mtcnn, astronaut: UInt8Array, smallest: int
) -> None:
    halvings, options = halve(astronaut), DetectionParameters(smallest)
    stage = ProposalStage(sessions["pnet"], sessions["filter"])
    found = stage.find(halvings, smallest, options.pyramid_factor, options.thresholds[0])
    squares = detector._refine(halvings, found.squares, 0.3)
    close = np.tril(overlap(squares, squares) > CLOSE, -1)
    assert len(squares) > 2
    assert close.sum(axis=1).max() == BETTER - 1


def test_candidates_and_batches_are_bounded(sessions: dict[str, Session]) -> None:
    rnet = Counting(sessions["rnet"])
    grain = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    detector = Mtcnn(SeesFacesEverywhere(), LetsPass(), rnet, sessions["onet"])
    detector.detect(decoded(grain), DetectionParameters(12))
    assert 1000 < sum(rnet.counts) <= MAX_CANDIDATES + MOST
    assert max(rnet.counts) == RNET.batch


def test_of_a_likely_face_only_the_best_candidates_go_first() -> None:
    face = [[0, 0, 10, 10], [1, 0, 11, 10], [0, 1, 10, 11]]
    squares = np.array([*face, [50, 50, 60, 60]], np.float32)
    first = going_first(Proposals(squares, np.array([0.9, 0.6, 0.8, 0.1], np.float32)))
    assert first.tolist() == [True, False, True, True]
    assert going_first(Proposals(squares, np.full(4, 0.1, np.float32))).all()
    assert not len(going_first(Proposals(squares[:0], squares[:0, 0])))


def test_what_lies_on_a_face_is_told_from_what_does_not() -> None:
    faces = np.array([[0, 0, 10, 10]], np.float32)
    squares = faces + np.array([[0], [5], [7], [20]], np.float32) * np.array([1, 0, 1, 0], np.float32)
    assert away(squares, faces).tolist() == (overlap(squares, faces)[:, 0] <= ON_FACE).tolist()
    assert away(squares, faces).tolist() == [False, False, True, True]
    assert away(squares, faces[:0]).all()


def test_face_is_found_through_the_others_where_the_best_are_none(
    sessions: dict[str, Session], golden: Golden, astronaut: UInt8Array
) -> None:
    class Disbelieves:
        """An R-Net that takes what it sees first for no face."""

        def __init__(self) -> None:
            self.runs = 0

        def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
            self.runs += 1
            probability, box = sessions["rnet"].run(inputs)
            return [probability if self.runs > 1 else np.zeros_like(probability), box]

    likely = Mtcnn(sessions["pnet"], LetsPass(), Disbelieves(), sessions["onet"])
    (face,) = detect(likely, astronaut, min_face_size=60)
    assert overlap(regions(face), golden["facenet_box"]).item() > 0.75


@pytest.mark.parametrize("size", [0, math.nan])
def test_a_smallest_face_of_no_size_is_refused(size: float) -> None:
    with pytest.raises(ValueError, match="min_face_size"):
        DetectionParameters(size)


@pytest.mark.parametrize("factor", [0, 1, math.nan])
def test_a_pyramid_that_does_not_end_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="pyramid_factor"):
        DetectionParameters(40, pyramid_factor=factor)


def test_default_minimum_grows_with_the_image() -> None:
    assert default_min_face_size(640, 480) == 40
    assert default_min_face_size(3024, 4032) == pytest.approx(161.28)
