"""The face as the classifier knows it: 48x48 gray pixels, framed as FER2013 frames a face.

Measured by `python -m training.framing` on 3,000 faces of FER2013's training split, enlarged to 192 pixels
with a gray border; 2,971 of them are found. The side of FER2013's frame is 1.060 times the mean of the
detected box's width and height (median), and its centre is that of the box, to about a hundredth of its side.
So cut, the frame's side spreads by 0.089, its centre by 0.032 across and 0.031 down (median absolute
deviations, in sides). A frame from eyes and mouth is no nearer: its side spreads by 0.114, and its median
overlap with FER2013's frame is 0.756, where the box has 0.786.

What lies outside FER2013's frame is new to the networks, so a crop that is too wide costs more than one that
is too close, and the best is a little closer than the median. Of the 1,425 training images that no network
learned, shown in scenes, `balanced` names 69.3, 71.9, 71.8, 71.4, 68.9 % with 0.8, 0.9, 1.0, 1.1 and 1.2
times the box, and `fast` 68.8, 70.7, 70.7, 69.2, 67.2 % (`python -m training.robustness --held-out
--curve-images 1425`).

A face that leans, as the line between its eyes does, is turned upright first: not at all up to TILTED
degrees, wholly from FALLEN on, and in between by a part that grows evenly, so that no small movement changes
the crop at once. The networks learned from faces that hardly lean (docs/models.md). Of the same images,
where they are turned by 30 and -30 degrees and found, version 8 names 70 and 70 instead of 62 and 64 %.
Wholly from 15 degrees on, it names a point more of these, and half a point less of those that are not
turned; from 0 on, one point and a half less. The line between the corners of the mouth, or a fit of all five
points, serves no better.
"""

from collections.abc import Sequence
from math import atan2, ceil, degrees, sqrt

import cv2
import numpy as np

from service.vision.types import DecodedImage, Face, Landmarks, UInt8Array

SIDE = 48
SIDE_PER_BOX = 1.0
TILTED, FALLEN = 12.0, 21.0  # degrees


def crop_face(image: DecodedImage, face: Face) -> UInt8Array:
    """(48, 48) gray crop of the square about the face's region; pixels beyond the image repeat its edge.

    A face that leans is turned upright about the square's centre, as far as `righted` says.
    """
    scale = image.scale
    x1, y1, x2, y2 = (edge * scale for edge in face.region)
    side = max(1, round((x2 - x1 + y2 - y1) / 2 * SIDE_PER_BOX))
    left, top = round((x1 + x2 - side) / 2), round((y1 + y2 - side) / 2)
    turn = righted(roll(face.landmarks))
    if turn:
        gray = cut_turned(image.pixels, left, top, side, turn)
    else:
        gray = to_gray(cut_square(image.pixels, left, top, side))
    interpolation = cv2.INTER_AREA if side >= SIDE else cv2.INTER_CUBIC
    return cv2.resize(gray, (SIDE, SIDE), interpolation=interpolation).astype(np.uint8, copy=False)


def roll(landmarks: Landmarks) -> float:
    """By how many degrees the line between the eyes leans; positive where the right end is lower."""
    left, right = landmarks.left_eye, landmarks.right_eye
    return degrees(atan2(right.y - left.y, right.x - left.x))


def righted(lean: float) -> float:
    """By how many degrees a face that leans by so many is turned back."""
    return lean * min(max((abs(lean) - TILTED) / (FALLEN - TILTED), 0.0), 1.0)


def crop_faces(image: DecodedImage, faces: Sequence[Face]) -> UInt8Array:
    """(N, 1, 48, 48) gray crops in the order of faces."""
    crops = [crop_face(image, face) for face in faces]
    return np.array(crops, np.uint8).reshape(-1, 1, SIDE, SIDE)


def cut_square(pixels: UInt8Array, left: int, top: int, side: int) -> UInt8Array:
    """(side, side, 3) pixels, the image's edge repeated where the square leaves it."""
    height, width = pixels.shape[:2]
    if min(left, top) >= 0 and left + side <= width and top + side <= height:
        return pixels[top : top + side, left : left + side]
    rows = np.arange(top, top + side).clip(0, height - 1)
    columns = np.arange(left, left + side).clip(0, width - 1)
    repeated: UInt8Array = pixels[rows[:, None], columns]
    return repeated


def cut_turned(pixels: UInt8Array, left: int, top: int, side: int, lean: float) -> UInt8Array:
    """(side, side) gray pixels of the square, which leans by so many degrees about its centre.

    Takes no more memory than the image and the square have pixels, wherever the square lies.
    """
    margin = ceil(side * (sqrt(2) - 1) / 2)  # what its corners need beyond the upright square
    height, width = pixels.shape[:2]
    x1, x2 = inside(left - margin, left + side + margin, width)
    y1, y2 = inside(top - margin, top + side + margin, height)
    middle = (side - 1) / 2
    centre = (left + middle - x1, top + middle - y1)
    turn = np.asarray(cv2.getRotationMatrix2D(centre, lean, 1.0), np.float64)
    turn[:, 2] += middle - np.array(centre)
    window = to_gray(pixels[y1:y2, x1:x2])
    turned = cv2.warpAffine(
        window, turn, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(turned, np.uint8)


def inside(start: int, end: int, length: int) -> tuple[int, int]:
    """The part of a range that lies in 0 to `length`; at least the pixel next to it."""
    return min(max(start, 0), length - 1), max(min(end, length), 1)


def to_gray(pixels: UInt8Array) -> UInt8Array:
    """(H, W, 3) RGB -> (H, W), as Rec. 601 weighs the colours."""
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
