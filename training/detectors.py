"""What a cruder face box costs: MTCNN against Haar cascades on the same scenes (figures 9 and 10)."""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from service.vision.crop import crop_face
from service.vision.emotion import EmotionClassifier
from service.vision.mtcnn import Mtcnn
from service.vision.types import Box, DecodedImage, Face, Landmarks, Point
from training.config import ConfigError
from training.data import Faces
from training.robustness import Outcome, outcome
from training.scenes import Condition, Square, best_match, find, overlap, scenes

CONDITION = Condition(side=96)
SCRIPT = Path(__file__).with_name("haar.py")


@dataclass(frozen=True)
class Detected:
    """A detector's faces, None where it found none, and how well its boxes cover the pasted squares."""

    name: str
    faces: list[Face | None]
    overlap: float
    outcome: Outcome


def compare(
    detector: Mtcnn, classifier: EmotionClassifier, faces: Faces, haar_python: Path | None
) -> list[Detected]:
    """Both detectors, Haar's box as it is and reframed to be fair; MTCNN alone without OpenCV 4."""
    pictures = list(scenes(faces.images, CONDITION))
    found = [find(detector, image, square, CONDITION.side) for image, square in tqdm(pictures, desc="mtcnn")]
    rows = [_detected("MTCNN", found, pictures, classifier, faces)]
    if haar_python is None:
        return rows
    crude = haar([image for image, _ in pictures], haar_python)
    boxes = [best_match(candidates, square) for candidates, (_, square) in zip(crude, pictures, strict=True)]
    squares = [square for _, square in pictures]
    rows.append(_detected("Haar cascade", boxes, pictures, classifier, faces))
    rows.append(_detected("Haar cascade, reframed", reframed(boxes, squares), pictures, classifier, faces))
    return rows


def haar(images: Sequence[DecodedImage], python: Path) -> list[list[Face]]:
    """The cascade's faces in each image, by a subprocess. Raises ConfigError where that fails."""
    with tempfile.TemporaryDirectory() as folder:
        pixels, boxes = Path(folder) / "scenes.npy", Path(folder) / "boxes.json"
        np.save(pixels, np.stack([image.pixels[:, :, 0] for image in images]))
        command = [str(python), str(SCRIPT), str(pixels), str(boxes)]
        if subprocess.run(command, check=False).returncode:  # noqa: S603
            raise ConfigError(f"{python} finds no faces: it needs NumPy and OpenCV 4 (`make haar` makes one)")
        return [[as_face(box) for box in found] for found in json.loads(boxes.read_text())]


def as_face(box: Sequence[int]) -> Face:
    """A face of which only the box is known."""
    x1, y1, x2, y2 = box
    nowhere = Point(0, 0)
    return Face(Box(x1, y1, x2 - x1, y2 - y1), (x1, y1, x2, y2), 1.0, Landmarks(*[nowhere] * 5))


def reframed(faces: Sequence[Face | None], squares: Sequence[Square]) -> list[Face | None]:
    """Every box moved and scaled alike, so that in the median it is the pasted square."""
    pairs = [(face.region, square) for face, square in zip(faces, squares, strict=True) if face]
    shifts = [
        ((true[0] - box[0]) / (box[2] - box[0]), (true[1] - box[1]) / (box[2] - box[0]))
        for box, true in pairs
    ]
    scale = float(np.median([(true[2] - true[0]) / (box[2] - box[0]) for box, true in pairs] or [1.0]))
    dx, dy = np.median(shifts, axis=0).tolist() if shifts else (0.0, 0.0)
    return [face and _moved(face, dx, dy, scale) for face in faces]


def _moved(face: Face, dx: float, dy: float, scale: float) -> Face:
    x1, y1, x2, _ = face.region
    side = x2 - x1
    left, top = x1 + dx * side, y1 + dy * side
    return replace(face, region=(left, top, left + scale * side, top + scale * side))


def _detected(
    name: str,
    found: list[Face | None],
    pictures: Sequence[tuple[DecodedImage, Square]],
    classifier: EmotionClassifier,
    faces: Faces,
) -> Detected:
    rows = [
        (crop_face(image, face), label, overlap(face.region, square))
        for face, (image, square), label in zip(found, pictures, faces.labels.tolist(), strict=True)
        if face
    ]
    crops, labels, overlaps = (
        (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [0.0])
    )
    answers = outcome(classifier, crops, labels, len(faces))
    return Detected(name, found, float(np.mean(overlaps)), answers)
