"""What the service answers, as frozen dataclasses that carry the wire's own field names."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

Emotion = Literal["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
ImageFormat = Literal["jpeg", "png", "webp", "bmp", "tiff", "gif", "heif", "avif"]
T = TypeVar("T")
E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """The image as the service received it; pixels of the upright picture."""

    width: int
    height: int
    format: ImageFormat
    exif_orientation: int


@dataclass(frozen=True, slots=True)
class Box:
    """Whole pixels of the upright image, inside it."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Point:
    """Pixels of the upright image."""

    x: float
    y: float


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


@dataclass(frozen=True, slots=True)
class Probabilities:
    """How likely people would call the expression each of the seven; they sum to 1."""

    angry: float
    disgust: float
    fear: float
    happy: float
    sad: float
    surprise: float
    neutral: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """One face. crop: the 48x48 crop that was classified, as base64 PNG, where it was asked for."""

    box: Box
    detection_confidence: float
    landmarks: Landmarks
    dominant_emotion: Emotion
    probabilities: Probabilities
    uncertain: bool
    crop: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFace(Face):
    """A face of a stream; its label, probabilities and `uncertain` are smoothed over the last frames.

    id: the same from frame to frame; raw_probabilities: those of this frame alone.
    """

    id: int
    raw_probabilities: Probabilities


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Which emotion model answered."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds that each stage took in the service."""

    queue: float
    decode: float
    detect: float
    crop: float
    classify: float
    total: float


@dataclass(frozen=True, slots=True)
class Detection:
    """The answer for one image; faces come largest first."""

    image: ImageInfo
    faces: list[Face]
    model: ModelRef
    timings_ms: Timings


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the service refused (RFC 9457); `code` is what a program should look at."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str


@dataclass(frozen=True, slots=True)
class BatchOk:
    """An image of a batch that was analyzed."""

    result: Detection
    status: Literal["ok"] = "ok"


@dataclass(frozen=True, slots=True)
class BatchError:
    """An image of a batch that could not be analyzed."""

    error: Problem
    status: Literal["error"] = "error"


@dataclass(frozen=True, slots=True)
class StreamFrame:
    """A frame that was analyzed; faces come largest first.

    frame: which of the sent ones, from 1; dropped: frames since the last answer that newer ones replaced;
    full_search: False where faces were looked for only where they were in the frame before.
    """

    frame: int
    dropped: int
    full_search: bool
    image: ImageInfo
    faces: list[StreamFace]
    model: ModelRef
    timings_ms: Timings
    status: Literal["ok"] = "ok"


@dataclass(frozen=True, slots=True)
class StreamError:
    """A frame that could not be analyzed; the stream goes on. frame, dropped: as in StreamFrame."""

    frame: int
    dropped: int
    error: Problem
    status: Literal["error"] = "error"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """An emotion model that `model=` accepts.

    label_set: whose word the answers follow, FER2013's labels or FER+'s ten voters; measured: figures of its
    model card.
    """

    name: str
    version: str
    digest: str
    default: bool
    bytes: int
    labels: list[str]
    uncertain_below: float
    licence: str
    measured: dict[str, float]
    # A service that does not tell it yet has no other.
    label_set: Literal["fer2013", "ferplus"] = "fer2013"


def parse(kind: type[T], value: Any) -> T:
    """A dataclass from parsed JSON. Fields it does not know are left out: a newer service may send more.

    Raises KeyError or TypeError where a field is missing, TypeError or ValueError where it is another type's.
    """
    parsed: T = _parse(kind, value)
    return parsed


def parse_either(ok: type[T], error: type[E], value: Mapping[str, Any]) -> T | E:
    """One of two dataclasses, as the field `status` says."""
    return parse(error, value) if value["status"] == "error" else parse(ok, value)


def _parse(kind: Any, value: Any) -> Any:
    hints = _hints(kind)
    if is_dataclass(kind):
        required = [field.name for field in fields(kind) if field.default is MISSING]
        present = {name for name in hints if name in value} | set(required)
        return kind(**{name: _parse(hints[name], value[name]) for name in present})  # type: ignore[operator]
    if get_origin(kind) is list:
        return [_parse(get_args(kind)[0], item) for item in value]
    if kind in (bool, int, str) and not isinstance(value, kind):
        raise TypeError(f"{kind.__name__} expected, not {type(value).__name__}")
    # JSON writes 1.0 as 1 now and then.
    return float(value) if kind is float else value


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind) if is_dataclass(kind) else {}
