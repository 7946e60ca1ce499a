"""FER2013 faces in larger made-up pictures, and what the service's detector and crop make of them.

FER2013 has 48x48 faces and nothing around them. Pasted onto a background drawn from a seed, they can be
looked for as the service looks for faces in a photo, and it is known where they are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.runtime.model_store import DETECTOR_GRAPHS
from service.vision.mtcnn import DetectionParameters, Mtcnn, default_min_face_size
from service.vision.types import DecodedImage, Face, UInt8Array
from training import manifest
from training.data import SIDE
from training.manifest import StoreError

Square = tuple[float, float, float, float]
# A detection is of the face if it overlaps its square by so much of their union, or by less where nearly all
# of it lies within: some of FER2013's images show more than a face, and a scene shows nothing else.
LEAST_OVERLAP, LEAST_OVERLAP_WITHIN, WITHIN = 0.3, 0.15, 0.75


@dataclass(frozen=True)
class Condition:
    """How a face is shown.

    side: pixels of the pasted face; blur: standard deviation in pixels of the 48x48 face;
    rotation: degrees; margin: how much wider than the service's the crop is cut, as a share of its side.
    """

    side: int = 96
    blur: float = 0.0
    rotation: float = 0.0
    margin: float = 0.0


class Graph:
    """An ONNX file, or its bytes, behind the vision code's `Session` Protocol."""

    def __init__(self, model: Path | bytes) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        source = model if isinstance(model, bytes) else str(model)
        self._session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        outputs: Sequence[NDArray[Any]] = self._session.run(None, dict(inputs))
        return outputs


def load_detector(store: Path) -> Mtcnn:
    """The service's detector, from the graphs of a model store. Raises StoreError."""
    entries = manifest.section(store, "detector")
    if missing := [name for name in DETECTOR_GRAPHS if name not in entries]:
        names = ", ".join(missing)
        raise StoreError(f"{store} has no detector ({names}): export into a copy of a whole store")
    return Mtcnn(*(Graph(store / entries[name]["file"]) for name in DETECTOR_GRAPHS))


def scenes(images: UInt8Array, condition: Condition, seed: int = 0) -> Iterator[tuple[DecodedImage, Square]]:
    """A picture for each of (N, 48, 48) images, and the upright square around the face in it."""
    for index, image in enumerate(images):
        yield scene(image, condition, np.random.default_rng((seed, index)))


def scene(
    image: UInt8Array, condition: Condition, random: np.random.Generator
) -> tuple[DecodedImage, Square]:
    """A picture with this (48, 48) image in it, and the upright square around the face."""
    pixels, square = paste(image, background(2 * condition.side, random), condition, random)
    height, width = pixels.shape[:2]
    return DecodedImage(pixels, width, height, "png", 1), square


def background(side: int, random: np.random.Generator) -> UInt8Array:
    """(side, side) gray: a gradient under noise of three scales."""
    side = max(side, 128)
    rows, columns = np.mgrid[0:side, 0:side] / side - 0.5
    angle, slope = random.uniform(0, 2 * np.pi), random.uniform(0, 120)
    picture = random.uniform(60, 190) + slope * (np.cos(angle) * columns + np.sin(angle) * rows)
    for cells, strength in ((4, 25.0), (16, 12.0), (side, 4.0)):
        noise = random.normal(0, strength, (cells, cells)).astype(np.float32)
        picture = picture + cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray(picture.clip(0, 255), np.uint8)


def paste(
    image: UInt8Array, scene: UInt8Array, condition: Condition, random: np.random.Generator
) -> tuple[UInt8Array, Square]:
    """Put a (48, 48) face into a gray scene: RGB (H, W, 3) and the upright square around the face."""
    half = condition.side / 2
    centre = random.uniform(0.85 * condition.side, scene.shape[0] - 0.85 * condition.side, 2)
    shrinks = condition.side < SIDE
    if shrinks:
        image = np.asarray(cv2.resize(image, (condition.side,) * 2, interpolation=cv2.INTER_AREA), np.uint8)
    turn = cv2.getRotationMatrix2D((0, 0), condition.rotation, condition.side / len(image))
    # The middle of the face goes to the centre; OpenCV counts from the middle of the first pixel.
    turn[:, 2] = centre - 0.5 - turn[:, :2] @ np.full(2, (len(image) - 1) / 2)
    result = cv2.warpAffine(
        image, turn, scene.shape[::-1], scene.copy(), cv2.INTER_CUBIC, cv2.BORDER_TRANSPARENT
    )
    if condition.blur:
        result = cv2.GaussianBlur(result, (0, 0), condition.blur * condition.side / SIDE)
    x, y = centre.tolist()
    rgb = np.repeat(np.asarray(result, np.uint8)[:, :, None], 3, axis=2)
    return rgb, (x - half, y - half, x + half, y + half)


def find(detector: Mtcnn, image: DecodedImage, square: Square, side: int) -> Face | None:
    """The detected face that overlaps the square most; None where none does."""
    smallest = min(default_min_face_size(image.width, image.height), max(12.0, 0.7 * side))
    faces = detector.detect(image, DetectionParameters(smallest))
    return best_match(faces, square)


def best_match(faces: Sequence[Face], square: Square) -> Face | None:
    """The face whose box overlaps the square most, of those that show what is in it."""
    shown = [face for face in faces if shows(face.region, square)]
    return max(shown, key=lambda face: overlap(face.region, square), default=None)


def shows(box: Square, square: Square) -> bool:
    """Whether a detector's box is of the face that was pasted into the square."""
    least = LEAST_OVERLAP_WITHIN if shared(box, square) >= WITHIN * area(box) else LEAST_OVERLAP
    return overlap(box, square) >= least


def overlap(one: Square, other: Square) -> float:
    """Intersection over union of two boxes (x1, y1, x2, y2)."""
    both = shared(one, other)
    return both / (area(one) + area(other) - both)


def shared(one: Square, other: Square) -> float:
    """Area of the intersection."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)


def area(box: Square) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
