"""What becomes of the answer for a face when its photo is turned, with the crop turned upright and without.

    python -m benchmarks.leaning --data ../shared/data/detection/wider_subset [--degrees 30]

Nobody knows what is right for these faces. But an upright face has an answer, and in a turned photo it should
keep it. Counted are faces that stand upright in the photo and, in the turned one, are found and lean so far
that the service turns them wholly upright.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.detection import read_truth, turned
from service.runtime.model_store import load_pipeline
from service.vision.crop import FALLEN, crop_face, roll
from service.vision.mtcnn import DetectionParameters
from service.vision.pipeline import EmotionPipeline
from service.vision.types import DecodedImage, Face, Landmarks, Point, UInt8Array

SMALLEST_FACE = 40
UPRIGHT = 8.0  # degrees
NEAR = 0.25  # how far from where it should be a face is still the same one, in sides
LEVEL = Landmarks(*[Point(0, 0)] * 5)  # with it, a face is cut as if it did not lean


def crops(pipeline: EmotionPipeline, pixels: UInt8Array, degrees: float) -> Iterator[list[UInt8Array]]:
    """For each face that counts, crops (48, 48): upright, leaning and turned upright, leaning as it is."""
    before = decoded(pixels)
    leaning, matrix = turned(pixels, degrees)
    after = decoded(leaning)
    found = pipeline.detector.detect(after, DetectionParameters(SMALLEST_FACE))
    for face in pipeline.detector.detect(before, DetectionParameters(SMALLEST_FACE)):
        x1, y1, x2, y2 = face.region
        place = matrix @ ((x1 + x2) / 2, (y1 + y2) / 2, 1)
        same = [other for other in found if apart(other, place) < NEAR * (x2 - x1)]
        if same and abs(roll(face.landmarks)) < UPRIGHT and abs(roll(same[0].landmarks)) > FALLEN:
            level = replace(same[0], landmarks=LEVEL)
            yield [crop_face(before, face), crop_face(after, same[0]), crop_face(after, level)]


def decoded(pixels: UInt8Array) -> DecodedImage:
    """The image, as if it were decoded from a file."""
    return DecodedImage(pixels, pixels.shape[1], pixels.shape[0], "jpeg", 1)


def apart(face: Face, place: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """How far the face's middle is from a place, in pixels."""
    x1, y1, x2, y2 = face.region
    return float(np.hypot((x1 + x2) / 2 - place[0], (y1 + y2) / 2 - place[1]))


def main() -> None:
    """Parse the command line and print how many faces keep their answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/detection/wider_subset"))
    parser.add_argument("--degrees", type=float, nargs="+", default=[-45, -30, -20, 20, 30, 45])
    arguments = parser.parse_args()
    if not (arguments.data / "boxes.tsv").exists():
        parser.error(f"no boxes.tsv in {arguments.data}: pass --data")
    pipeline = load_pipeline()
    photos = [
        np.asarray(Image.open(arguments.data / path).convert("RGB")) for path in read_truth(arguments.data)
    ]
    print("| turned by | faces | turned upright, they keep their answer | as they are |\n|---|---|---|---|")
    for degrees in arguments.degrees:
        shown = np.array([cut for photo in photos for cut in crops(pipeline, photo, degrees)])
        answers = pipeline.classifier(None).classify(shown.reshape(-1, 1, 48, 48)).argmax(1).reshape(-1, 3)
        upright, level = (answers[:, 1:] == answers[:, :1]).mean(axis=0)
        print(f"| {degrees:g} | {len(answers)} | {upright:.1%} | {level:.1%} |")


if __name__ == "__main__":
    main()
