"""Analysis -> wire types."""

import base64
from collections.abc import Sequence

import cv2
from pydantic import TypeAdapter

from service.api.schemas import (
    Batch,
    BoxSchema,
    Detection,
    FaceSchema,
    ImageInfo,
    LandmarksSchema,
    ModelRef,
    PointSchema,
    Probabilities,
    StreamError,
    StreamFace,
    StreamFrame,
    TimingsSchema,
    Unvalidated,
    Wire,
)
from service.runtime.model_store import EmotionEntry
from service.vision.track import Tracked, TrackedFace
from service.vision.types import EMOTIONS, Analysis, AnalyzedFace, Landmarks, Point, UInt8Array

_SENT: tuple[type[Unvalidated | Wire], ...] = (Detection, Batch, StreamFrame, StreamError)
_SERIALIZERS = {kind: TypeAdapter(kind).serializer for kind in _SENT}


def detection(
    analysis: Analysis, entry: EmotionEntry, *, queue_ms: float, total_ms: float, include_crops: bool
) -> Detection:
    """The wire form of an analysis by the model of `entry`."""
    return Detection(
        image=_image(analysis),
        faces=[_face(face, include_crops) for face in analysis.faces],
        model=_model(analysis, entry),
        timings_ms=_timings(analysis, queue_ms, total_ms),
    )


def stream_frame(
    tracked: Tracked,
    entry: EmotionEntry,
    *,
    number: int,
    dropped: int,
    queue_ms: float,
    total_ms: float,
    include_crops: bool,
) -> StreamFrame:
    """The wire form of a stream's frame, the one of that number; see `detection`."""
    return StreamFrame(
        frame=number,
        dropped=dropped,
        full_search=tracked.full,
        image=_image(tracked.analysis),
        faces=[_stream_face(face, include_crops) for face in tracked.faces],
        model=_model(tracked.analysis, entry),
        timings_ms=_timings(tracked.analysis, queue_ms, total_ms),
    )


def to_json(answer: Unvalidated | Wire) -> bytes:
    """An answer as it is sent; what a face has not is left out."""
    return _SERIALIZERS[type(answer)].to_json(answer, exclude_none=True)


def server_timing(timings: TimingsSchema, draw_ms: float | None = None) -> str:
    """The Server-Timing header: every stage in the order of its work, then the total, in milliseconds."""
    drawn = "" if draw_ms is None else f"draw;dur={round(draw_ms, 3)}, "
    return (
        f"queue;dur={timings.queue}, decode;dur={timings.decode}, detect;dur={timings.detect}, "
        f"crop;dur={timings.crop}, classify;dur={timings.classify}, {drawn}total;dur={timings.total}"
    )


def digest(entry: EmotionEntry) -> str:
    """The graph file's checksum, as the wire has it."""
    return f"sha256:{entry.sha256}"


def _image(analysis: Analysis) -> ImageInfo:
    return ImageInfo(
        width=analysis.width,
        height=analysis.height,
        format=analysis.format,
        exif_orientation=analysis.exif_orientation,
    )


def _model(analysis: Analysis, entry: EmotionEntry) -> ModelRef:
    return ModelRef(name=analysis.model, version=entry.version, digest=digest(entry))


def _timings(analysis: Analysis, queue_ms: float, total_ms: float) -> TimingsSchema:
    timings = analysis.timings
    return TimingsSchema(
        queue=round(queue_ms, 3),
        decode=round(timings.decode, 3),
        detect=round(timings.detect, 3),
        crop=round(timings.crop, 3),
        classify=round(timings.classify, 3),
        total=round(total_ms, 3),
    )


def _stream_face(tracked: TrackedFace, include_crops: bool) -> StreamFace:
    now = _face(tracked.analyzed, include_crops)
    return StreamFace(
        box=now.box,
        detection_confidence=now.detection_confidence,
        landmarks=now.landmarks,
        dominant_emotion=tracked.dominant_emotion,
        probabilities=_probabilities(tracked.probabilities),
        uncertain=tracked.uncertain,
        crop=now.crop,
        id=tracked.id,
        raw_probabilities=now.probabilities,
    )


def _probabilities(values: Sequence[float]) -> Probabilities:
    return Probabilities(**{name: _significant(p) for name, p in zip(EMOTIONS, values, strict=True)})


def _face(analyzed: AnalyzedFace, include_crops: bool) -> FaceSchema:
    face = analyzed.face
    return FaceSchema(
        box=BoxSchema(x=face.box.x, y=face.box.y, width=face.box.width, height=face.box.height),
        detection_confidence=_significant(face.confidence),
        landmarks=_landmarks(face.landmarks),
        dominant_emotion=analyzed.dominant_emotion,
        probabilities=_probabilities(analyzed.probabilities),
        uncertain=analyzed.uncertain,
        crop=_png(analyzed.crop) if include_crops else None,
    )


def _landmarks(landmarks: Landmarks) -> LandmarksSchema:
    return LandmarksSchema(
        left_eye=_point(landmarks.left_eye),
        right_eye=_point(landmarks.right_eye),
        nose=_point(landmarks.nose),
        mouth_left=_point(landmarks.mouth_left),
        mouth_right=_point(landmarks.mouth_right),
    )


def _point(point: Point) -> PointSchema:
    return PointSchema(x=round(point.x, 2), y=round(point.y, 2))


def _significant(value: float) -> float:
    """Six significant digits: float32's noise goes, small probabilities stay."""
    return float(f"{value:.6g}")


def _png(crop: UInt8Array) -> str:
    _, data = cv2.imencode(".png", crop)
    return base64.b64encode(data.tobytes()).decode("ascii")
