"""What the vision code speaks in: frozen values, and the small Protocol its graphs satisfy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import ceil
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

UInt8Array = NDArray[np.uint8]
Float32Array = NDArray[np.float32]

# FER2013's order; the column order of every probability array in this project.
EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
# Whose word a classifier's answers follow: FER2013's labels, or FER+'s ten voters.
LabelSet = Literal["fer2013", "ferplus"]


class Session(Protocol):
    """A loaded graph. Safe to call from several threads at once."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """Feed arrays by input name; get the outputs in the graph's own order."""
        ...


T = TypeVar("T")


class Helpers(Protocol):
    """Threads that make calls for another one."""

    @property
    def idle(self) -> int:
        """How many of them have nothing else to do."""
        ...

    def together(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """Make calls that do not depend on each other; the results in order, or the first exception."""
        ...


class Nobody:
    """No `Helpers`."""

    idle = 0

    def together(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """One after the other."""
        return [call() for call in calls]


NOBODY = Nobody()


@dataclass(frozen=True, slots=True)
class Point:
    """A position in pixels of the upright image."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Box:
    """Whole pixels of the upright image; always inside it, never empty."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Left and right are the viewer's (the image's), not the person's.

    Of a face that the image's edge cuts, they may lie outside.
    """

    left_eye: Point
    right_eye: Point
    nose: Point
    mouth_left: Point
    mouth_right: Point

    @property
    def points(self) -> tuple[Point, ...]:
        """All of them, in the order of LANDMARKS."""
        return self.left_eye, self.right_eye, self.nose, self.mouth_left, self.mouth_right


LANDMARKS = tuple(field.name for field in fields(Landmarks))


# x1, y1, x2, y2 in float pixels of the upright image; may reach beyond it.
Region = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Face:
    """One detected face.

    region: the detector's own box, before it is put right, rounded and clipped for show. The crop is cut
    from this one.
    confidence: O-Net's `face` probability, 0..1.
    window: what O-Net looked at to find it; where a film's next frame is looked at. None for faces of other
    detectors.
    """

    box: Box
    region: Region
    confidence: float
    landmarks: Landmarks
    window: Region | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """A file's own account of its first picture.

    size: stored width and height, before orientation. Of HEIF and AVIF the largest that any part claims.
    orientation: EXIF's 1..8, how the stored pixels must be turned; None where the decoder library finds it.
    body: what to hand to the decoder.
    bits: significant bits of a sample, for pictures of more than 8.
    offset: where in the size the body's picture begins; what it leaves uncovered is white.
    passes: how often the decoder goes over all pixels.
    """

    format: str
    size: tuple[int, int]
    body: bytes
    orientation: int | None = 1
    bits: int = 8
    offset: tuple[int, int] = (0, 0)
    passes: int = 1

    def described(self) -> dict[str, Any]:
        """All but the body, as plain values."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "body"}


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An upright image, possibly decoded at a reduced scale.

    pixels: (h, w, 3) uint8 RGB; width and height are those of the full upright image.

    Raises ValueError for pixels of another type or shape: the graphs would find no face in them, or fail.
    """

    pixels: UInt8Array
    width: int
    height: int
    format: str
    exif_orientation: int

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3:
            raise ValueError(f"pixels are uint8 (height, width, 3) RGB, not {dtype} {shape}")

    @property
    def scale(self) -> float:
        """Pixels for one of the full image, across and down.

        Decoders divide both sides by a whole number and round up, so a narrow side alone tells another one.
        """
        shape, full = self.pixels.shape[:2], (self.height, self.width)
        shrunk: float = max(full) / max(shape)
        divisor = max(1, round(shrunk))
        exact = all(ceil(side / divisor) == length for side, length in zip(full, shape, strict=True))
        return 1 / divisor if exact else 1 / shrunk


@dataclass(frozen=True, slots=True)
class AnalyzedFace:
    """A face and how likely people would call its expression each of EMOTIONS.

    probabilities: seven floats that sum to 1, in EMOTIONS order.
    uncertain: the answer is right less than half the time at this confidence.
    crop: the (48, 48) uint8 image the classifier saw.
    """

    face: Face
    probabilities: tuple[float, ...]
    uncertain: bool
    crop: UInt8Array

    @property
    def dominant_emotion(self) -> str:
        """The most likely of EMOTIONS."""
        return EMOTIONS[max(range(len(EMOTIONS)), key=self.probabilities.__getitem__)]


@dataclass(frozen=True, slots=True)
class Timings:
    """Wall-clock milliseconds that each stage took."""

    decode: float
    detect: float
    crop: float
    classify: float


@dataclass(frozen=True, slots=True)
class Analysis:
    """All that was found in one image; faces largest first.

    width, height: of the upright image, in pixels; format, exif_orientation: the file's; model: which emotion
    variant answered.
    """

    width: int
    height: int
    format: str
    exif_orientation: int
    faces: tuple[AnalyzedFace, ...]
    model: str
    timings: Timings
