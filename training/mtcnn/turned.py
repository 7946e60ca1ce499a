"""Photos turned about their middle: the faces that were clear upright are known to be there, leaning.

The published networks learned from few heads that lean: in photos that are turned by 30 degrees they find
over a quarter fewer (`python -m benchmarks.detection --turned 30`, facenet-pytorch).
"""

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
from numpy.random import Generator

from service.vision.types import UInt8Array
from training.mtcnn.teacher import Teacher
from training.scenes import Square

Photo = tuple[UInt8Array, list[Square]]  # with the frames of those of its faces that are known
LEAN = (10, 50)  # degrees to either side: what heads do, and a little more


def turned_photos(
    teacher: Teacher, photos: Iterable[UInt8Array], random: Generator, times: int
) -> Iterator[Photo]:
    """Each photo (H, W, 3), turned so many times, with the frames of its faces."""
    for photo in photos:
        frames = teacher.faces(photo)
        for _ in range(times):
            yield turned(photo, frames, leaning(random))


def leaning(random: Generator) -> float:
    """By how many degrees a photo is turned, either way."""
    return float(random.uniform(*LEAN) * random.choice([-1, 1]))


def turned(picture: UInt8Array, frames: Sequence[Square], degrees: float) -> Photo:
    """The picture (H, W, 3), turned, and the frames of those faces that are still in it, as large as before.

    The size stays, and edges go on where nothing was.
    """
    height, width = picture.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    shown = cv2.warpAffine(picture, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    moved = []
    for x1, y1, x2, y2 in frames:
        x, y = (turn @ ((x1 + x2) / 2, (y1 + y2) / 2, 1)).tolist()
        half = (x2 - x1) / 2
        if 0 < x < width and 0 < y < height:
            moved.append((x - half, y - half, x + half, y + half))
    return np.asarray(shown, np.uint8), moved
