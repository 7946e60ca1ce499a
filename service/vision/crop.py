"""The face as the classifier knows it: 48x48 gray pixels, framed as FER2013 frames a face.

Measured by `python -m training.framing` on 3,000 faces of FER2013's training split, enlarged to 192 pixels
with a gray border; 2,903 of them are found. The side of FER2013's frame is 1.061 times the mean of the
detected box's width and height (median), and its centre is that of the box, to about a hundredth of its side.
So cut, the frame's side spreads by 0.087, its centre by 0.032 across and 0.030 down (median absolute
deviations, in sides). A frame from eyes and mouth is no nearer: its side spreads by 0.113, and its median
overlap with FER2013's frame is 0.758, where the box has 0.787.

What lies outside FER2013's frame is new to the networks, so a crop that is too wide costs more than one that
is too close, and the best is a little closer than the median. Of the 1,425 training images that no network
learned, shown in scenes, `balanced` names 66.2, 69.5, 69.5, 67.1, 64.6 % with 0.8, 0.9, 1.0, 1.1 and 1.2
times the box, and `fast` 65.8, 68.6, 67.7, 65.6, 63.4 % (`python -m training.robustness --held-out
--curve-images 1425`).
"""

from collections.abc import Sequence

import cv2
import numpy as np

from service.vision.types import DecodedImage, Face, UInt8Array

SIDE = 48
SIDE_PER_BOX = 1.0


def crop_face(image: DecodedImage, face: Face) -> UInt8Array:
    """(48, 48) gray crop of the square about the face's region; pixels beyond the image repeat its edge."""
    scale = image.pixels.shape[1] / image.width
    x1, y1, x2, y2 = (edge * scale for edge in face.region)
    side = max(1, round((x2 - x1 + y2 - y1) / 2 * SIDE_PER_BOX))
    left, top = round((x1 + x2 - side) / 2), round((y1 + y2 - side) / 2)
    gray = cv2.cvtColor(cut_square(image.pixels, left, top, side), cv2.COLOR_RGB2GRAY)
    interpolation = cv2.INTER_AREA if side >= SIDE else cv2.INTER_CUBIC
    return cv2.resize(gray, (SIDE, SIDE), interpolation=interpolation).astype(np.uint8, copy=False)


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
