"""The pictures in which the detector's small networks see what the published ones answer."""

from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from service.vision.types import UInt8Array
from training.data import DataError

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
    parser.add_argument("--store", type=Path, default=STORE, help="or a copy of it, until `register` is run")


def files(paths: Iterable[Path]) -> list[Path]:
    """These files and those in these folders, by name. Raises DataError for a folder without any."""
    found: list[Path] = []
    for path in paths:
        there = [file for file in sorted(path.rglob("*.*")) if file.is_file()] if path.is_dir() else [path]
        if not there:
            raise DataError(f"{path} holds no pictures")
        found += there
    return found


def pictures(paths: Iterable[Path]) -> Iterator[UInt8Array]:
    """Upright RGB (H, W, 3) of images, and of one in 25 frames of videos; at most 1600 pixels a side.

    Raises DataError for a file that OpenCV cannot read.
    """
    for path in paths:
        shown = False
        for frame in islice(_frames(path), 0, None, EVERY_FRAME):
            yield rescaled(np.asarray(frame[:, :, ::-1]), min(1.0, LARGEST_SIDE / max(frame.shape)))
            shown = True
        if not shown:
            raise DataError(f"{path} cannot be read as an image or a video")


def _frames(path: Path) -> Iterator[UInt8Array]:
    """BGR, of an image or a video."""
    # As a video, for which OpenCV would take it, an image lies as the camera lay.
    image = cv2.imread(str(path)) if cv2.haveImageReader(str(path)) else None
    if image is not None:
        yield np.asarray(image, np.uint8)
        return
    video = cv2.VideoCapture(str(path))
    while (frame := video.read()[1]) is not None:
        yield np.asarray(frame, np.uint8)


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
