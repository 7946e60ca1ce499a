import cv2
import numpy as np
import pytest

from service.vision.crop import (
    SIDE,
    SIDE_PER_BOX,
    TILTED,
    crop_face,
    crop_faces,
    cut_square,
    cut_turned,
    righted,
    roll,
)
from service.vision.types import Box, DecodedImage, Face, Landmarks, Point, UInt8Array

NOWHERE = Point(0, 0)
MARKS = Landmarks(NOWHERE, NOWHERE, NOWHERE, NOWHERE, NOWHERE)


def face(x1: float, y1: float, x2: float, y2: float) -> Face:
    return Face(Box(0, 0, 1, 1), (x1, y1, x2, y2), 1.0, MARKS)


def leaning(degrees: float, middle: float = 100, side: float = 80) -> Face:
    """A face about the middle of a picture, whose right eye is so many degrees lower than its left one."""
    across, down = 20 * np.cos(np.radians(degrees)), 20 * np.sin(np.radians(degrees))
    left, right = Point(middle - across, middle - down), Point(middle + across, middle + down)
    edges = (middle - side / 2, middle + side / 2)
    marks = Landmarks(left, right, NOWHERE, NOWHERE, NOWHERE)
    return Face(Box(0, 0, 1, 1), (edges[0], edges[0], edges[1], edges[1]), 1.0, marks)


def image(pixels: UInt8Array, scale: float = 1.0) -> DecodedImage:
    height, width = pixels.shape[:2]
    return DecodedImage(pixels, round(width / scale), round(height / scale), "png", 1)


def ramp(width: int = 240, height: int = 200) -> UInt8Array:
    """Brightness that rises by one for each pixel to the right."""
    return np.repeat(np.tile(np.arange(width, dtype=np.uint8), (height, 1))[..., None], 3, axis=2)


def test_frame_is_centred_on_the_region_and_sized_by_its_mean_side() -> None:
    crop = crop_face(image(ramp()), face(70, 60, 130, 160)).astype(float)
    side = SIDE_PER_BOX * 80
    assert crop.shape == (SIDE, SIDE)
    assert crop.mean() == pytest.approx(100 - 0.5, abs=0.6)
    assert np.ptp(crop) == pytest.approx(side * (SIDE - 1) / SIDE, abs=1.5)


def test_a_small_face_is_enlarged_smoothly() -> None:
    crop = crop_face(image(12 * ramp(20, 20)), face(0, 0, 20, 20)).astype(int)
    assert np.diff(crop, axis=1).max() <= 6


def test_a_large_face_is_averaged() -> None:
    """A crop that took single pixels of it would show their noise."""
    noise = np.random.default_rng(0).integers(0, 256, (192, 192, 3), np.uint8)
    assert crop_face(image(noise), face(0, 0, 192, 192)).std() < 20


def test_a_face_of_less_than_a_pixel_still_gives_a_crop() -> None:
    assert crop_face(image(ramp()), face(5, 5, 5.2, 5.3)).shape == (SIDE, SIDE)


@pytest.mark.parametrize("side", [20, 44.86, 45, 100, 190])
def test_frame_of_any_size_shows_the_same_scene(side: float) -> None:
    pixels = np.asarray(cv2.resize(ramp()[:48, :48], None, fx=side / 40, fy=side / 40), np.uint8)
    half = pixels.shape[0] / 2
    crop = crop_face(image(pixels), face(half - side / 2, half - side / 2, half + side / 2, half + side / 2))
    assert crop.mean() == pytest.approx(pixels.mean(), abs=1.5)


def test_beyond_the_image_its_edge_is_repeated() -> None:
    crop = crop_face(image(ramp()), face(-40, -40, 40, 40))
    assert (crop[:, : SIDE // 2 - 1] == 0).all()
    assert (crop == crop[:1]).all()
    assert crop[0, -1] > 35


@pytest.mark.parametrize("corner", [(-500, -500), (1000, 50), (50, 1000), (-10, 195)])
def test_region_outside_the_image_still_gives_a_crop(corner: tuple[int, int]) -> None:
    left, top = corner
    assert crop_face(image(ramp()), face(left, top, left + 30, top + 30)).shape == (SIDE, SIDE)


def test_reduced_decode_gives_the_same_crop() -> None:
    grain = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    full = np.asarray(cv2.resize(grain, (800, 800), interpolation=cv2.INTER_CUBIC), np.uint8)
    half = np.asarray(cv2.resize(full, (400, 400), interpolation=cv2.INTER_AREA), np.uint8)
    region = face(201, 150, 530, 560)
    one, other = crop_face(image(full), region), crop_face(image(half, 0.5), region)
    assert np.abs(one.astype(int) - other).mean() < 2


@pytest.mark.parametrize("degrees", [-45, -21, 21, 30, 60])
@pytest.mark.parametrize("side", [30, 80])
def test_a_face_that_leans_is_cut_as_if_it_stood_upright(degrees: float, side: float) -> None:
    grain = np.random.default_rng(0).integers(0, 256, (10, 10, 3), np.uint8)
    upright = np.asarray(cv2.resize(grain, (200, 200), interpolation=cv2.INTER_CUBIC), np.uint8)
    # OpenCV turns counter-clockwise, and counts from the middle of the first pixel.
    turn = cv2.getRotationMatrix2D((99.5, 99.5), -degrees, 1)
    turned = np.asarray(cv2.warpAffine(upright, turn, (200, 200), flags=cv2.INTER_CUBIC), np.uint8)
    face = leaning(degrees, side=side)
    assert roll(face.landmarks) == pytest.approx(degrees)
    expected = crop_face(image(upright), leaning(0, side=side)).astype(int)
    assert np.abs(crop_face(image(turned), face) - expected).mean() < 2


@pytest.mark.parametrize("degrees", [-TILTED, -5, 12, TILTED])
def test_a_face_that_leans_little_is_cut_as_it_is(degrees: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    crop, level = (crop_face(image(pixels), leaning(angle * 0.999)) for angle in (degrees, 0))
    assert np.array_equal(crop, level)


def test_no_small_movement_of_a_head_changes_its_crop_at_once() -> None:
    turns = np.array([righted(lean) for lean in np.arange(-60, 60, 0.1)])
    assert np.diff(turns).max() < 0.35
    assert np.diff(turns).min() >= 0

    grain = np.random.default_rng(0).integers(0, 256, (10, 10, 3), np.uint8)
    picture = image(np.asarray(cv2.resize(grain, (200, 200), interpolation=cv2.INTER_CUBIC), np.uint8))
    crops = np.array([crop_face(picture, leaning(lean)) for lean in np.arange(8, 26, 0.1)]).astype(int)
    assert np.abs(np.diff(crops, axis=0)).mean(axis=(1, 2)).max() < 1
    assert np.abs(crops[0] - crops[-1]).mean() > 20


@pytest.mark.parametrize("middle", [-20, 0, 195, 260])
def test_a_face_that_leans_over_the_edge_shows_the_edge_going_on(middle: float) -> None:
    pixels = np.full((200, 200, 3), 90, np.uint8)
    assert np.unique(crop_face(image(pixels), leaning(40, middle))).tolist() == [90]


@pytest.mark.parametrize(("colour", "gray"), [((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29)])
def test_gray_is_that_of_rec_601(colour: tuple[int, int, int], gray: int) -> None:
    pixels = np.full((60, 60, 3), colour, np.uint8)
    assert np.unique(crop_face(image(pixels), face(10, 10, 50, 50))).tolist() == [gray]


def test_crops_keep_the_order_of_the_faces() -> None:
    faces = [face(150, 50, 190, 90), face(20, 50, 60, 90)]
    crops = crop_faces(image(ramp()), faces)
    assert crops.shape == (2, 1, SIDE, SIDE)
    assert crops.dtype == np.uint8
    assert crops[0].mean() > crops[1].mean()


def test_no_faces_give_an_empty_batch() -> None:
    crops = crop_faces(image(ramp()), [])
    assert crops.shape == (0, 1, SIDE, SIDE)
    assert crops.dtype == np.uint8


@pytest.mark.parametrize(("left", "top"), [(5, 7), (-3, 4), (4, -3), (31, 4), (4, 21), (30, 26), (-40, 90)])
def test_cut_square_matches_padding(left: int, top: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    padded = np.pad(pixels, ((100, 100), (100, 100), (0, 0)), mode="edge")
    expected = padded[top + 100 : top + 120, left + 100 : left + 120]
    np.testing.assert_array_equal(cut_square(pixels, left, top, 20), expected)


@pytest.mark.parametrize(("left", "top"), [(5, 7), (-13, 4), (30, 26), (-90, 90), (400, -3)])
def test_cut_turned_matches_turning_the_whole_picture(left: int, top: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    padded = cv2.cvtColor(np.pad(pixels, ((500, 500), (500, 500), (0, 0)), mode="edge"), cv2.COLOR_RGB2GRAY)
    turn = cv2.getRotationMatrix2D((left + 509.5, top + 509.5), 33, 1)
    turned = cv2.warpAffine(padded, turn, padded.shape[::-1], flags=cv2.INTER_CUBIC)
    expected = turned[top + 500 : top + 520, left + 500 : left + 520]
    np.testing.assert_allclose(cut_turned(pixels, left, top, 20, 33), expected, atol=1)
