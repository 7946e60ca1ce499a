"""The annotated picture: what is drawn, where labels go, and that it can be read."""

from io import BytesIO
from itertools import combinations
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from service.vision.draw import EMOTION_COLORS, annotate, encode, label_text, text_color
from service.vision.types import EMOTIONS, AnalyzedFace, Box, Face, Landmarks, Point, UInt8Array

GROUND = (90, 90, 90)
# What full protanopia and deuteranopia make of linear RGB (Machado, Oliveira and Fernandes, 2009).
COLOR_BLINDNESS = {
    "protanopia": [(0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)],
    "deuteranopia": [(0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)],
}


def ground(width: int, height: int) -> UInt8Array:
    return np.full((height, width, 3), GROUND, np.uint8)


def face(
    x: int, y: int, width: int, height: int, emotion: str = "happy", *, probability: float = 0.93
) -> AnalyzedFace:
    """All landmarks in the middle of the box."""
    rest = (1 - probability) / 6
    middle = Point(x + width / 2, y + height / 2)
    return AnalyzedFace(
        face=Face(
            box=Box(x, y, width, height),
            region=(x, y, x + width, y + height),
            confidence=0.99,
            landmarks=Landmarks(middle, middle, middle, middle, middle),
        ),
        probabilities=tuple(probability if name == emotion else rest for name in EMOTIONS),
        uncertain=probability < 0.5,
        crop=np.zeros((48, 48), np.uint8),
    )


def count(pixels: UInt8Array, emotion: str) -> int:
    return int((pixels == EMOTION_COLORS[emotion]).all(axis=-1).sum())


def inside(pixels: UInt8Array, box: Box) -> UInt8Array:
    return pixels[box.y : box.y + box.height, box.x : box.x + box.width]


def labelled(pixels: UInt8Array, one: AnalyzedFace) -> int:
    """Pixels in the face's colour, other than those of its frame and landmarks."""
    box = one.face.box
    rest = pixels.copy()
    for part in (inside(rest, box), inside(rest, box).transpose(1, 0, 2)):
        part[:4] = part[-4:] = 0
    rest[box.y + box.height // 2 - 8 :, box.x + box.width // 2 - 8 :][:16, :16] = 0
    return count(rest, one.dominant_emotion)


def luminance(color: tuple[int, int, int]) -> float:
    return float(linear(color) @ (0.2126, 0.7152, 0.0722))


def linear(color: tuple[int, int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    scaled = np.array(color) / 255
    return np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4)


def test_a_label_tells_the_emotion_and_how_sure_it_is() -> None:
    assert label_text(face(0, 0, 9, 9)) == "happy 93 %"
    assert label_text(face(0, 0, 9, 9, "fear", probability=0.412)) == "fear? 41 %"
    assert label_text(face(0, 0, 9, 9, "sad", probability=1.0)) == "sad 100 %"


def test_the_input_stays_as_it_is() -> None:
    image = ground(200, 150)
    image.flags.writeable = False

    drawn = annotate(image, [face(60, 50, 60, 70)])

    assert (image == GROUND).all()
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert (drawn != image).any()


def test_without_faces_the_picture_is_a_copy() -> None:
    image = ground(20, 10)

    drawn = annotate(image, [])

    assert (drawn == image).all()
    assert not np.shares_memory(drawn, image)


def test_the_box_is_framed_and_the_landmarks_are_dotted() -> None:
    drawn = annotate(ground(400, 300), [face(150, 100, 100, 120, "sad")])

    color = EMOTION_COLORS["sad"]
    corners = drawn[[100, 100, 219, 219], [150, 249, 150, 249]]
    assert (corners == color).all()
    assert (drawn[160, 200] == color).all()
    assert (drawn[130:140, 170:180] == GROUND).all()
    assert (drawn[[220, 160, 160], [200, 149, 250]] == 0).all(), "no dark rim"


def test_at_the_edge_of_the_picture_the_frame_goes_on() -> None:
    drawn = annotate(ground(300, 200), [face(0, 0, 80, 90)])

    assert (drawn[[0, 45], [40, 0]] == EMOTION_COLORS["happy"]).all()


def test_lines_grow_with_the_picture() -> None:
    widths = []
    for side in (100, 1_000, 4_000):
        drawn = annotate(ground(side, side), [face(side // 4, side // 4, side // 2, side // 2, "sad")])
        middle = drawn[side // 4 : side // 4 + side // 8, side * 3 // 8]
        widths.append(count(middle, "sad"))

    assert widths[0] <= 2
    assert widths[0] < widths[1] < widths[2]
    assert (middle == 0).all(axis=-1).sum() == 1, "no inner rim"


def test_lines_of_a_large_picture_leave_a_small_face_in_sight() -> None:
    drawn = annotate(ground(3_000, 50), [face(100, 15, 20, 20)])

    assert count(drawn[15:20, 105], "happy") == 1


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 300, 200),
        (0, 0, 80, 90),
        (220, 110, 80, 90),
        (0, 110, 80, 90),
        (110, 0, 90, 200),
        (0, 60, 300, 90),
    ],
    ids=["whole", "upper left", "lower right", "lower left", "column", "row"],
)
def test_a_label_is_drawn_wherever_the_face_is(box: tuple[int, int, int, int]) -> None:
    one = face(*box)

    assert labelled(annotate(ground(300, 200), [one]), one) > 200


def test_on_a_small_face_that_fills_the_picture_the_emotion_stands_alone() -> None:
    one = face(0, 0, 28, 60, "sad")

    assert labelled(annotate(ground(28, 60), [one]), one) > 60


def test_with_room_around_no_label_covers_a_face() -> None:
    faces = [
        face(100 + 200 * column, 80 + 150 * row, 60, 70, EMOTIONS[(row + 3 * column) % 7])
        for row in range(3)
        for column in range(4)
    ]
    image = ground(900, 500)
    drawn = annotate(image, faces)

    for one in faces:
        corner = inside(drawn, one.face.box)[4:25, 4:-4]
        assert (corner == GROUND).all()


@pytest.mark.parametrize("gap", [0, 3, 12, 30])
def test_in_a_crowd_labels_cover_no_other_face(gap: int) -> None:
    faces = [
        face(5 + (64 + gap) * column, 5 + (80 + gap) * row, 64, 80, EMOTIONS[(column + 3 * row) % 7])
        for row in range(4)
        for column in range(7)
    ]
    drawn = annotate(ground(10 + 7 * (64 + gap), 10 + 4 * (80 + gap)), faces)

    for one in faces:
        content = inside(drawn, one.face.box)[4:-4, 4:-4]
        assert not any(count(content, other) for other in set(EMOTIONS) - {one.dominant_emotion})


def test_labels_do_not_cover_each_other() -> None:
    apart = [face(40, 100, 40, 50, "happy"), face(400, 100, 40, 50, "sad")]
    close = [face(40, 100, 40, 50, "happy"), face(85, 100, 40, 50, "sad")]

    for emotion in ("happy", "sad"):
        area = [count(annotate(ground(600, 300), faces), emotion) for faces in (apart, close)]
        assert area[0] == area[1]


def test_a_face_too_small_for_any_label_keeps_its_frame() -> None:
    drawn = annotate(ground(24, 20), [face(2, 2, 18, 16)])

    assert (drawn[2, 2:20] == EMOTION_COLORS["happy"]).all()
    assert (drawn[4:7, 4:18] == GROUND).all()


@pytest.mark.parametrize("side", [1, 2, 12])
def test_tiny_pictures_are_no_error(side: int) -> None:
    assert annotate(ground(side, side), [face(0, 0, side, side)]).shape == (side, side, 3)


@pytest.mark.parametrize("side", [100, 640, 4_000])
def test_the_label_takes_a_legible_share_of_the_picture(side: int) -> None:
    """Nine pixels at least, and at least 1.4 percent of the longer side."""
    drawn = annotate(ground(side, side), [face(side // 3, side // 2, side // 4, side // 3)])

    above = (drawn[: side // 2 - 4] == EMOTION_COLORS["happy"]).all(axis=-1)
    assert above.any(axis=1).sum() >= max(9, 0.014 * side)


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_text_contrasts_with_its_label(emotion: str) -> None:
    color = EMOTION_COLORS[emotion]
    dark, light = sorted((luminance(color), luminance(text_color(color))))

    assert (light + 0.05) / (dark + 0.05) >= 4.5


@pytest.mark.parametrize("matrix", COLOR_BLINDNESS.values(), ids=COLOR_BLINDNESS)
def test_colors_differ_for_colour_blind_people(matrix: list[tuple[float, float, float]]) -> None:
    seen = {name: np.array(matrix) @ linear(color) for name, color in EMOTION_COLORS.items()}

    for one, other in combinations(EMOTIONS, 2):
        # Roughly perceptual: square roots of light.
        distance = np.abs(np.sqrt(seen[one].clip(0)) - np.sqrt(seen[other].clip(0))).sum()
        assert distance > 0.1, (one, other)


@pytest.mark.parametrize(("name", "tolerance"), [("jpeg", 3), ("png", 0)])
def test_encoding_gives_the_picture_back(name: Literal["jpeg", "png"], tolerance: float) -> None:
    drawn = annotate(ground(200, 150), [face(60, 50, 60, 70)])

    image = Image.open(BytesIO(encode(drawn, name)))

    assert image.format == name.upper()
    assert np.abs(np.asarray(image).astype(int) - drawn).mean() <= tolerance
