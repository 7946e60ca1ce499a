"""The pictures in which the detector's small networks see what the published ones answer."""

from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from service.vision.types import UInt8Array

STORE = Path(__file__).parents[2] / "model_store"
LARGEST_SIDE = 1600
EVERY_FRAME = 25
SCALES = (1.0, 0.88, 0.76, 1.15, 1.3)  # other sizes, so that every face is seen between the levels too


def add_arguments(parser: ArgumentParser, *, others: str) -> None:
    """What every network of the detector learns from, and the store it goes to.

    others: what becomes of the images of `--halved` that are not learned from.
    """
    parser.add_argument(
        "--pictures", type=Path, nargs="+", required=True, help="images, videos, folders of them"
    )
    parser.add_argument("--faces", type=Path, required=True, help="FER2013, in any of its forms")
    parser.add_argument("--halved", type=Path, help=f"a folder; every second image {others}")
    parser.add_argument("--store", type=Path, default=STORE)


def files(paths: Iterable[Path]) -> list[Path]:
    """These files and those in these folders, by name."""
    return [file for path in paths for file in (sorted(path.rglob("*.*")) if path.is_dir() else [path])]


def pictures(paths: Iterable[Path]) -> Iterator[UInt8Array]:
    """RGB pictures (H, W, 3) of images, and of one in 25 frames of videos; at most 1600 pixels a side.

    Raises ValueError for a file that OpenCV cannot read.
    """
    for path in paths:
        video = cv2.VideoCapture(str(path))
        index = 0
        while (frame := video.read()[1]) is not None:
            if index % EVERY_FRAME == 0:
                yield rescaled(np.asarray(frame[:, :, ::-1]), min(1.0, LARGEST_SIDE / max(frame.shape)))
            index += 1
        if index == 0:
            raise ValueError(f"{path} cannot be read as an image or a video")


def rescaled(picture: UInt8Array, factor: float) -> UInt8Array:
    """The picture at another size."""
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=interpolation)
    return np.ascontiguousarray(resized, np.uint8)


def varied(originals: Iterable[UInt8Array]) -> Iterator[UInt8Array]:
    """Each picture at several sizes, and mirrored."""
    for picture in originals:
        yield from (rescaled(picture, scale) for scale in SCALES)
        yield np.ascontiguousarray(picture[:, ::-1])
