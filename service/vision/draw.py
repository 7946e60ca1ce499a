"""The annotated picture: boxes, landmarks, and a label on every face that has room for one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from math import ceil
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from service.vision.errors import NotEncodableError
from service.vision.types import AnalyzedFace, Box, Point, UInt8Array

PictureFormat = Literal["jpeg", "png"]
JPEG_LONGEST_SIDE = 65_500  # libjpeg's
Color = tuple[int, int, int]
Rectangles = NDArray[np.int64]  # (N, 4): x1, y1, x2, y2, the far edges exclusive

# Okabe and Ito's colours, which people with any common colour blindness can tell apart.
EMOTION_COLORS: Mapping[str, Color] = {
    "angry": (213, 94, 0),
    "disgust": (0, 158, 115),
    "fear": (204, 121, 167),
    "happy": (240, 228, 66),
    "sad": (0, 114, 178),
    "surprise": (86, 180, 233),
    "neutral": (187, 187, 187),
}
_BLACK: Color = (0, 0, 0)
_WHITE: Color = (255, 255, 255)
# Pixels; below this the built-in font's letters run together.
_SMALLEST_FONT = 9
_FONT_STEPS = (1.0, 0.8, 0.65, 0.5, 0.0)


def annotate(image: UInt8Array, faces: Sequence[AnalyzedFace]) -> UInt8Array:
    """Draw every face's box, landmarks and label ("happy 93 %", an uncertain one "happy? 41 %").

    image: (H, W, 3) uint8 RGB, upright and full-size, as the boxes are; it is not changed. Earlier faces get
    the better places. A label covers no other face and no other label and stays inside the image; a face with
    no room for one, not even on itself, has only the colour of its box.
    """
    pixels = image.copy()
    height, width = pixels.shape[:2]
    for face in faces:
        _draw_face(pixels, face)
    taken = _rectangles([face.face.box for face in faces])
    for index, face in enumerate(faces):
        labels = _labels(face, max(width, height))
        near = _within_reach(face.face.box, labels, taken)
        placed = _place_label(face, labels, taken[near], taken[near[near != index]], (width, height))
        if placed:
            left, top, label = placed
            spot = (left, top, left + label.width, top + label.height)
            pixels[spot[1] : spot[3], spot[0] : spot[2]] = label.render()
            taken = np.vstack([taken, spot])
    return pixels


def _rectangles(boxes: Sequence[Box]) -> Rectangles:
    corners = [(box.x, box.y, box.x + box.width, box.y + box.height) for box in boxes]
    return np.array(corners, np.int64).reshape(-1, 4)


def check_encodable(width: int, height: int, format: PictureFormat) -> None:  # noqa: A002
    """Raises NotEncodableError for a picture of that size where the format has none."""
    if format == "jpeg" and max(width, height) > JPEG_LONGEST_SIDE:
        raise NotEncodableError(
            f"the picture has {width} x {height} pixels, and a JPEG at most {JPEG_LONGEST_SIDE} a side: "
            "ask for image/png"
        )


def encode(pixels: UInt8Array, format: PictureFormat) -> bytes:  # noqa: A002
    """Encode (H, W, 3) uint8 RGB; JPEG at quality 90, PNG at a compression that favours speed."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format, quality=90, compress_level=3)
    return buffer.getvalue()


def label_text(face: AnalyzedFace) -> str:
    """What is written on a face: its dominant emotion and that one's probability."""
    mark = "?" if face.uncertain else ""
    return f"{face.dominant_emotion}{mark} {100 * max(face.probabilities):.0f} %"


def text_color(background: Color) -> Color:
    """Black or white, whichever contrasts more, by WCAG's relative luminance."""
    luminance = _luminance(background)
    return _BLACK if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else _WHITE


def _luminance(color: Color) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(color) / 255]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


# --- Box and landmarks --------------------------------------------------------------------------------


def _draw_face(pixels: UInt8Array, face: AnalyzedFace) -> None:
    color = EMOTION_COLORS[face.dominant_emotion]
    box = face.face.box
    width = _line_width(box, max(pixels.shape))
    # A dark rim keeps the line visible on any ground; inside a thin line it would hide the face.
    _draw_frame(pixels, box, grow=1, width=width + (2 if width > 1 else 1), color=_BLACK)
    _draw_frame(pixels, box, grow=0, width=width, color=color)
    for point in face.face.landmarks.points:
        _draw_dot(pixels, point, max(0.5, 0.018 * box.width), color)


def _draw_frame(pixels: UInt8Array, box: Box, grow: int, width: int, color: Color) -> None:
    left, top = box.x - grow, box.y - grow
    right, bottom = box.x + box.width + grow, box.y + box.height + grow
    for x1, y1, x2, y2 in (
        (left, top, right, top + width),
        (left, bottom - width, right, bottom),
        (left, top, left + width, bottom),
        (right - width, top, right, bottom),
    ):
        pixels[max(0, y1) : y2, max(0, x1) : x2] = color


def _line_width(box: Box, image_side: int) -> int:
    """Grows with the image, so that it survives scaling down, but never swallows a small face."""
    side = min(box.width, box.height)
    return max(1, round(min(max(0.002 * image_side, 0.01 * side), 0.04 * side)))


def _draw_dot(pixels: UInt8Array, point: Point, radius: float, color: Color) -> None:
    # cv2 takes 1/16 pixels, so that the dots of small faces sit where they belong.
    centre = (round(16 * point.x), round(16 * point.y))
    if radius >= 1:
        cv2.circle(pixels, centre, round(16 * (radius + 1)), _BLACK, cv2.FILLED, cv2.LINE_AA, shift=4)
    cv2.circle(pixels, centre, round(16 * radius), color, cv2.FILLED, cv2.LINE_AA, shift=4)


# --- Labels -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Label:
    """A text in one size. width, height: of the whole patch, in pixels."""

    text: str
    size: int
    color: Color
    padding: int
    width: int
    height: int

    def render(self) -> UInt8Array:
        patch = Image.new("RGB", (self.width, self.height), self.color)
        at = (self.padding, self.padding // 2)
        ImageDraw.Draw(patch).text(at, self.text, text_color(self.color), _font(self.size))
        return np.asarray(patch)


def _label(face: AnalyzedFace, text: str, size: int) -> _Label:
    padding = max(2, size // 4)
    width, height = _text_size(text, size)
    color = EMOTION_COLORS[face.dominant_emotion]
    return _Label(text, size, color, padding, width + 2 * padding, height + padding)


@lru_cache(maxsize=4096)
def _text_size(text: str, size: int) -> tuple[int, int]:
    """Measured once: a picture of a crowd asks for it a hundred times a face."""
    font = _font(size)
    return ceil(font.getlength(text)), sum(font.getmetrics())


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType, which labels need")
    return font


def _labels(face: AnalyzedFace, image_side: int) -> list[_Label]:
    """The full text from the size that suits the picture down to the smallest legible one."""
    wanted = min(max(0.16 * face.face.box.width, 0.014 * image_side), 0.06 * image_side)
    sizes = sorted({max(_SMALLEST_FONT, round(wanted * step)) for step in _FONT_STEPS}, reverse=True)
    return [_label(face, label_text(face), size) for size in sizes]


def _within_reach(box: Box, labels: Sequence[_Label], taken: Rectangles) -> NDArray[np.intp]:
    """Which of the rectangles a label beside or on this box could cover."""
    across, down = max(label.width for label in labels), max(label.height for label in labels)
    x1, y1, x2, y2 = taken.T
    columns = (box.x - across < x2) & (x1 < box.x + box.width + across)
    rows = (box.y - down < y2) & (y1 < box.y + box.height + down)
    return np.flatnonzero(columns & rows)


def _place_label(
    face: AnalyzedFace, labels: Sequence[_Label], taken: Rectangles, others: Rectangles, size: tuple[int, int]
) -> tuple[int, int, _Label] | None:
    """Beside the box in the largest size that fits, else on the box: (left, top, label).

    labels: largest first; taken: all boxes and the labels so far that one could cover; others: the same
    without this face's own box; size: the image's width and height.
    """
    for label in labels:
        if spot := _first_free(_places_beside(face.face.box, label, size), label, taken, size):
            return *spot, label
    for label in [*labels, _label(face, face.dominant_emotion, _SMALLEST_FONT)]:
        if spot := _first_free(_places_inside(face.face.box, label), label, others, size):
            return *spot, label
    return None


def _places_beside(box: Box, label: _Label, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Left and top of the label above, below and at either side, shifted to stay in the image."""
    right, bottom = box.x + box.width, box.y + box.height
    middle = box.x + (box.width - label.width) // 2
    columns = [min(max(0, x), size[0] - label.width) for x in (box.x, middle, right - label.width)]
    rows = [min(max(0, y), size[1] - label.height) for y in (box.y, bottom - label.height)]
    return [
        *((x, box.y - label.height) for x in columns),
        *((x, bottom) for x in columns),
        *((right, y) for y in rows),
        *((box.x - label.width, y) for y in rows),
    ]


def _places_inside(box: Box, label: _Label) -> list[tuple[int, int]]:
    """At the box's upper and lower edge, where it is wide enough."""
    if label.width > box.width or label.height > box.height:
        return []
    return [(box.x, box.y), (box.x, box.y + box.height - label.height)]


def _first_free(
    places: Sequence[tuple[int, int]], label: _Label, obstacles: Rectangles, size: tuple[int, int]
) -> tuple[int, int] | None:
    x1, y1, x2, y2 = obstacles.T
    for left, top in places:
        right, bottom = left + label.width, top + label.height
        inside = left >= 0 and top >= 0 and right <= size[0] and bottom <= size[1]
        if inside and not np.any((left < x2) & (x1 < right) & (top < y2) & (y1 < bottom)):
            return left, top
    return None
