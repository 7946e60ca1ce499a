"""How far what the detector says of a face lies aside: a photo beside its mirror image.

    python -m benchmarks.mirrored [--data ../shared/data/detection/wider_subset]

A detector that keeps to neither side says of the mirrored photo what it says of the photo, mirrored. Half of
the difference, on average, is how far to the right of a face its boxes and landmarks lie. No labels are
needed. The networks' box is the one that the last of them gives, the answered one is the service's.
"""

import argparse
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.detection import read_truth
from benchmarks.leaning import decoded
from service.runtime.model_store import load_pipeline
from service.vision.boxes import overlap
from service.vision.mtcnn import DetectionParameters, Mtcnn
from service.vision.types import Face, Float32Array, UInt8Array

SMALLEST_FACE = 20
LEAST_OVERLAP = 0.5
WIDTHS = (0, 25, 50, 100, float("inf"))
ACROSS, MIRRORED = [0, 2, 4, 5, 6], [2, 0, 4, 5, 6]  # a mirror swaps a box's left and right edge


def places(detector: Mtcnn, pixels: UInt8Array) -> Float32Array:
    """(N, 7) of each face: the networks' box, and the middles of it, the answered box and landmarks."""
    faces = detector.detect(decoded(np.ascontiguousarray(pixels)), DetectionParameters(SMALLEST_FACE))
    return np.array([place(face) for face in faces], np.float32).reshape(-1, 7)


def place(face: Face) -> list[float]:
    x1, _, x2, _ = face.region
    landmarks = np.mean([point.x for point in face.landmarks.points])
    return [*face.region, (x1 + x2) / 2, face.box.x + face.box.width / 2, float(landmarks)]


def asides(detector: Mtcnn, pixels: UInt8Array) -> Iterator[Float32Array]:
    """(4,) for each face found in both: its width; how far to the right both boxes and the landmarks are."""
    faces, others = places(detector, pixels), places(detector, pixels[:, ::-1])
    others[:, ACROSS] = pixels.shape[1] - others[:, MIRRORED]
    for face in faces:
        shares = overlap(face[:4], others[:, :4])
        if shares.max(initial=0) > LEAST_OVERLAP:
            yield np.array([face[2] - face[0], *(face[4:] - others[shares.argmax(), 4:]) / 2], np.float32)


def main() -> None:
    """Parse the command line and print a row for each size of face."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/detection/wider_subset"))
    folder = parser.parse_args().data
    if not (folder / "boxes.tsv").exists():
        parser.error(f"no boxes.tsv in {folder}: pass --data")
    detector = load_pipeline().detector
    photos = (np.asarray(Image.open(folder / path).convert("RGB")) for path in read_truth(folder))
    rows = np.array([row for photo in photos for row in asides(detector, photo)]).reshape(-1, 4)
    print("| width of the face | faces | networks' box | answered box | landmarks |\n|---|---|---|---|---|")
    for least, most in pairwise(WIDTHS):
        some = rows[(rows[:, 0] >= least) & (rows[:, 0] < most)]
        if len(some):
            means = " | ".join(f"{mean:+.2f}" for mean in some[:, 1:].mean(axis=0))
            print(f"| {least} to {most} | {len(some)} | {means} |")


if __name__ == "__main__":
    main()
