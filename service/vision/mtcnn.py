"""The face detector: MTCNN's cascade of three networks over an image pyramid.

Zhang, Zhang, Li, Qiao: Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks (2016).
Coordinates are continuous: pixel i covers [i, i + 1).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from service.vision.boxes import clip, regress, square, suppress
from service.vision.types import Box, DecodedImage, Face, Float32Array, Landmarks, Point, Session, UInt8Array

CELL, STRIDE = 12, 2  # P-Net's window, and the step from one to the next, in pixels of a pyramid level
RNET_SIDE, ONET_SIDE = 24, 48


@dataclass(frozen=True, slots=True)
class DetectionParameters:
    """min_face_size: the smallest face to look for, in pixels of the full upright image.

    thresholds: least face probability after P-Net, R-Net and O-Net.
    pyramid_factor: size of a pyramid level relative to the one before.
    """

    min_face_size: float
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)
    pyramid_factor: float = 0.709


def default_min_face_size(width: int, height: int) -> float:
    """40 pixels or 4 % of the longer side, so that a phone photo does not cost forty times a webcam frame."""
    return max(40.0, 0.04 * max(width, height))


class Mtcnn:
    """The cascade on its three graphs (`training/mtcnn/build.py` tells their inputs and outputs)."""

    def __init__(self, pnet: Session, rnet: Session, onet: Session) -> None:
        self._pnet, self._rnet, self._onet = pnet, rnet, onet

    def detect(self, image: DecodedImage, parameters: DetectionParameters) -> tuple[Face, ...]:
        """All faces, largest first; boxes and landmarks in pixels of the full upright image."""
        scale = image.pixels.shape[1] / image.width
        halvings = halve(image.pixels)
        propose, refine, accept = parameters.thresholds
        boxes = self._propose(halvings, parameters.min_face_size * scale, parameters.pyramid_factor, propose)
        boxes = self._refine(halvings, boxes, refine)
        boxes, scores, landmarks = self._locate(halvings, boxes, accept)
        return to_faces(boxes / scale, scores, landmarks / scale, image.width, image.height)

    def follow(
        self,
        image: DecodedImage,
        regions: Sequence[tuple[float, float, float, float]],
        parameters: DetectionParameters,
    ) -> tuple[Face, ...]:
        """The faces at or near these regions of an earlier frame, largest first; nothing else is looked at.

        Without P-Net and its pyramid, the cost depends on the regions and hardly on the size of the image.
        """
        scale = image.pixels.shape[1] / image.width
        halvings = halve(image.pixels)
        _, refine, accept = parameters.thresholds
        boxes = square(np.array(regions, np.float32).reshape(-1, 4) * scale)
        boxes, scores, landmarks = self._locate(halvings, self._refine(halvings, boxes, refine), accept)
        return to_faces(boxes / scale, scores, landmarks / scale, image.width, image.height)

    def _propose(
        self, halvings: list[UInt8Array], min_face_size: float, factor: float, threshold: float
    ) -> Float32Array:
        """P-Net on every level of the pyramid: square candidates (N, 4)."""
        found = [
            self._scan(level, halvings[0], threshold) for level in pyramid(halvings, min_face_size, factor)
        ]
        boxes, scores, offsets = (np.concatenate(parts) for parts in zip(EMPTY_SCAN, *found, strict=True))
        kept = suppress(boxes, scores, 0.7)
        return square(regress(boxes[kept], offsets[kept]))

    def _scan(
        self, level: UInt8Array, pixels: UInt8Array, threshold: float
    ) -> tuple[Float32Array, Float32Array, Float32Array]:
        """P-Net on one level: windows in coordinates of pixels (N, 4), their scores (N,) and offsets (N, 4)."""
        probability, offsets = self._pnet.run({"image": level[None]})
        _, rows, columns = np.nonzero(probability > threshold)
        corners = np.stack([columns, rows], axis=1) * STRIDE
        to_pixels = np.array(pixels.shape[1::-1]) / level.shape[1::-1]
        boxes = (np.hstack([corners, corners + CELL]) * np.tile(to_pixels, 2)).astype(np.float32)
        scores = probability[0, rows, columns]
        kept = suppress(boxes, scores, 0.5)
        return boxes[kept], scores[kept], offsets[0, rows, columns][kept]

    def _refine(self, halvings: list[UInt8Array], boxes: Float32Array, threshold: float) -> Float32Array:
        """R-Net on all candidates at once: fewer and better square candidates."""
        if not len(boxes):
            return boxes
        scores, offsets = self._rnet.run({"crops": cut(halvings, boxes, RNET_SIDE)})
        passed = scores > threshold
        boxes, scores, offsets = boxes[passed], scores[passed], offsets[passed]
        kept = suppress(boxes, scores, 0.7)
        return square(regress(boxes[kept], offsets[kept]))

    def _locate(
        self, halvings: list[UInt8Array], boxes: Float32Array, threshold: float
    ) -> tuple[Float32Array, Float32Array, Float32Array]:
        """O-Net on what is left: boxes (N, 4), scores (N,) and landmarks (N, 5, 2)."""
        if not len(boxes):
            return boxes, np.empty(0, np.float32), np.empty((0, 5, 2), np.float32)
        scores, offsets, points = self._onet.run({"crops": cut(halvings, boxes, ONET_SIDE)})
        passed = scores > threshold
        boxes, scores, offsets, points = boxes[passed], scores[passed], offsets[passed], points[passed]
        landmarks = boxes[:, None, :2] + points * (boxes[:, None, 2:] - boxes[:, None, :2])
        boxes = regress(boxes, offsets)
        kept = suppress(boxes, scores, 0.7, "min")
        return boxes[kept], scores[kept], landmarks[kept]


EMPTY_SCAN = (np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty((0, 4), np.float32))


def halve(pixels: UInt8Array) -> list[UInt8Array]:
    """The image and its repeated halvings, so that no later resize reads more than four pixels for one."""
    halvings = [pixels]
    while min(halvings[-1].shape[:2]) >= 2 * CELL:
        height, width = halvings[-1].shape[:2]
        halvings.append(cv2.resize(halvings[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    return halvings


def pyramid(halvings: list[UInt8Array], min_face_size: float, factor: float) -> Iterator[UInt8Array]:
    """Levels in which a face of growing size fills P-Net's window, the largest level first."""
    height, width = halvings[0].shape[:2]
    scale = min(CELL / min_face_size, 1.0)
    while min(height, width) * scale >= CELL:
        size = (round(width * scale), round(height * scale))
        yield resize(sufficient(halvings, scale), size)
        scale *= factor


def sufficient(halvings: list[UInt8Array], scale: float) -> UInt8Array:
    """The smallest halving that is still no smaller than the image at this scale."""
    return halvings[min(len(halvings) - 1, max(0, int(np.floor(-np.log2(scale)))))]


def resize(pixels: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    """Resize to (width, height): averaging when shrinking, bilinear when enlarging."""
    shrinks = size[0] <= pixels.shape[1]
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def cut(halvings: list[UInt8Array], boxes: Float32Array, side: int) -> UInt8Array:
    """(N, side, side, 3) crops; what lies outside the image is black, as in the reference cascade."""
    crops = np.empty((len(boxes), side, side, 3), np.uint8)
    for crop, box in zip(crops, boxes, strict=True):
        crop[:] = cut_one(halvings, box, side)
    return crops


def cut_one(halvings: list[UInt8Array], box: Float32Array, side: int) -> UInt8Array:
    source = sufficient(halvings, min(side / (box[2] - box[0]), 1.0))
    height, width = source.shape[:2]
    ratio = width / halvings[0].shape[1]
    x1, y1, x2, y2 = np.rint(box * ratio).astype(int).tolist()
    x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
    inner = source[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
    if x1 < 0 or y1 < 0 or x2 > width or y2 > height:
        borders = (max(-y1, 0), max(y2 - height, 0), max(-x1, 0), max(x2 - width, 0))
        inner = cv2.copyMakeBorder(inner, *borders, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    return resize(inner, (side, side))


def to_faces(
    boxes: Float32Array, scores: Float32Array, landmarks: Float32Array, width: int, height: int
) -> tuple[Face, ...]:
    """Faces whose box, clipped to the image, is not empty; largest first."""
    faces = []
    for region, (x1, y1, x2, y2), score, points in zip(
        boxes.tolist(), clip(boxes, width, height).tolist(), scores.tolist(), landmarks.tolist(), strict=True
    ):
        if x1 < x2 and y1 < y2:
            marks = Landmarks(*(Point(*point) for point in points))
            faces.append(Face(Box(x1, y1, x2 - x1, y2 - y1), tuple(region), score, marks))
    return tuple(sorted(faces, key=lambda face: face.box.width * face.box.height, reverse=True))
