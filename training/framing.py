"""Measure how the detector's box and landmarks sit in FER2013's frame, for `service/vision/crop.py`.

    python -m training.framing --data ../shared/data/fer2013

Training faces are enlarged to 192 pixels with a gray border, so that the detector can see them. For each
way to derive a square from a detection, the table has the factor and offset (medians) that make it
FER2013's frame, and how far from the frame it then is: spreads are median absolute deviations, in units of
the frame's side.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from service.vision.mtcnn import DetectionParameters, Mtcnn
from service.vision.types import DecodedImage, Face, UInt8Array
from training.arguments import positive, told
from training.data import DataError, load
from training.scenes import load_detector

FRAME, BORDER = 192, 96  # pixels
Array = NDArray[np.float64]


def enlarge(face: UInt8Array) -> DecodedImage:
    """A (48, 48) face as an RGB picture with a gray border."""
    frame = cv2.resize(face, (FRAME, FRAME), interpolation=cv2.INTER_CUBIC)
    gray = cv2.copyMakeBorder(frame, BORDER, BORDER, BORDER, BORDER, cv2.BORDER_CONSTANT, value=128)
    side = FRAME + 2 * BORDER
    return DecodedImage(np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB), np.uint8), side, side, "png", 1)


def in_frame(face: Face) -> list[float]:
    """The region's corners and the landmarks (14 numbers), in units of the frame's side."""
    pixels = [*face.region, *(value for point in face.landmarks.points for value in (point.x, point.y))]
    return [(value - BORDER) / FRAME for value in pixels]


def detections(detector: Mtcnn, faces: UInt8Array) -> Iterator[list[float]]:
    """For each face that is found about the middle of its frame: `in_frame` of the most certain detection."""
    for face in faces:
        found = detector.detect(enlarge(face), DetectionParameters(min_face_size=FRAME / 2))
        for best in sorted(found, key=lambda other: -other.confidence)[:1]:
            row = in_frame(best)
            if abs(row[0] + row[2] - 1) < 0.6 and abs(row[1] + row[3] - 1) < 0.6:
                yield row


def bases(rows: Array) -> dict[str, tuple[Array, Array]]:
    """Ways to derive a square from detections (N, 14): their sizes (N,) and centres (N, 2)."""
    sides = rows[:, 2:4] - rows[:, :2]
    centre = (rows[:, :2] + rows[:, 2:4]) / 2
    marks = rows[:, 4:].reshape(-1, 5, 2)
    eyes, mouth = marks[:, :2].mean(axis=1), marks[:, 3:].mean(axis=1)
    between = (eyes + mouth) / 2
    return {
        "box, mean of width and height": (sides.mean(axis=1), centre),
        "box, larger side": (sides.max(axis=1), centre),
        "box size about the landmarks": (sides.mean(axis=1), between),
        "eyes to mouth": (np.linalg.norm(mouth - eyes, axis=1), between),
    }


def spread(values: Array) -> Array:
    return np.median(np.abs(values - np.median(values, axis=0)), axis=0)


def fit(sizes: Array, centres: Array) -> str:
    """One row of the table."""
    factor = float(np.median(1 / sizes))
    offset = np.median((0.5 - centres) / sizes[:, None], axis=0)
    side, middle = factor * sizes, centres + offset * sizes[:, None]
    low = np.maximum(middle - side[:, None] / 2, 0)
    high = np.minimum(middle + side[:, None] / 2, 1)
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    iou = np.median(shared / (side**2 + 1 - shared))
    across, down = spread(middle)
    return (
        f"{factor:.3f} | {offset[0]:+.3f}, {offset[1]:+.3f} | {spread(side):.3f} | "
        f"{across:.3f} | {down:.3f} | {iou:.3f}"
    )


def report(rows: Array, shown: int) -> None:
    marks = np.array2string(np.median(rows[:, 4:], axis=0).reshape(5, 2), precision=3).replace("\n", "")
    print(f"found {len(rows)} of {shown}; landmarks in the frame (x, y, medians): {marks}\n")
    print("| square from | side / size | offset / size | spread of side | of x | of y | overlap |")
    print("|---|---|---|---|---|---|---|")
    for name, basis in bases(rows).items():
        print(f"| {name} | {fit(*basis)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure FER2013's framing with the detector.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/fer2013"))
    parser.add_argument("--store", type=Path, default=Path("model_store"))
    parser.add_argument("--faces", type=positive, default=3000)
    arguments = parser.parse_args()
    with told("framing"):
        images, detector = load(arguments.data, "train").images, load_detector(arguments.store)
        chosen = np.random.default_rng(0).permutation(len(images))[: arguments.faces]
        rows = np.array(list(detections(detector, images[chosen])))
        if not len(rows):
            raise DataError(f"the detector finds no face in {len(chosen)} images")
        report(rows, len(chosen))


if __name__ == "__main__":
    main()
