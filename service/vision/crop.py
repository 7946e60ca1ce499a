"""The face as the classifier knows it: 48x48 gray pixels, framed as FER2013 frames a face."""

from collections.abc import Sequence

import cv2
import numpy as np

from service.vision.types import DecodedImage, Face, UInt8Array

SIDE = 48
SIDE_PER_BOX = 1.0
CENTRE_X, CENTRE_Y = 0.0, 0.0


def crop_face(image: DecodedImage, face: Face) -> UInt8Array:
    """(48, 48) gray crop; pixels beyond the image repeat its edge."""
    scale = image.pixels.shape[1] / image.width
    x1, y1, x2, y2 = (edge * scale for edge in face.region)
    box_side = max(x2 - x1, y2 - y1)
    side = max(1, round(box_side * SIDE_PER_BOX))
    left = round((x1 + x2) / 2 + CENTRE_X * box_side - side / 2)
    top = round((y1 + y2) / 2 + CENTRE_Y * box_side - side / 2)
    gray = cv2.cvtColor(cut_square(image.pixels, left, top, side), cv2.COLOR_RGB2GRAY)
    interpolation = cv2.INTER_AREA if side >= SIDE else cv2.INTER_CUBIC
    return cv2.resize(gray, (SIDE, SIDE), interpolation=interpolation)


def crop_faces(image: DecodedImage, faces: Sequence[Face]) -> UInt8Array:
    """(N, 1, 48, 48) gray crops in the order of faces."""
    crops = [crop_face(image, face) for face in faces]
    return np.array(crops, np.uint8).reshape(-1, 1, SIDE, SIDE)


def cut_square(pixels: UInt8Array, left: int, top: int, side: int) -> UInt8Array:
    """(side, side, 3), the image's edge repeated where the square leaves it."""
    height, width = pixels.shape[:2]
    columns = np.arange(left, left + side).clip(0, width - 1)
    rows = np.arange(top, top + side).clip(0, height - 1)
    inner = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if inner.shape[:2] == (side, side):
        return inner
    return inner[(rows - rows[0])[:, None], columns - columns[0]]
