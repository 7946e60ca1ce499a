"""Analysis -> wire types."""

import base64

import cv2

from service.api.schemas import (
    BoxSchema,
    Detection,
    FaceSchema,
    ImageInfo,
    LandmarksSchema,
    ModelRef,
    PointSchema,
    Probabilities,
    TimingsSchema,
)
from service.runtime.model_store import EmotionEntry
from service.vision.types import EMOTIONS, Analysis, AnalyzedFace, Landmarks, Point, UInt8Array


def detection(
    analysis: Analysis, entry: EmotionEntry, *, queue_ms: float, total_ms: float, include_crops: bool
) -> Detection:
    """The wire form of an analysis by the model of `entry`."""
    timings = analysis.timings
    return Detection(
        image=ImageInfo(
            width=analysis.width,
            height=analysis.height,
            format=analysis.format,
            exif_orientation=analysis.exif_orientation,
        ),
        faces=[_face(face, include_crops) for face in analysis.faces],
        model=ModelRef(name=analysis.model, version=entry.version, digest=digest(entry)),
        timings_ms=TimingsSchema(
            queue=round(queue_ms, 3),
            decode=round(timings.decode, 3),
            detect=round(timings.detect, 3),
            crop=round(timings.crop, 3),
            classify=round(timings.classify, 3),
            total=round(total_ms, 3),
        ),
    )


def server_timing(timings: TimingsSchema, draw_ms: float | None = None) -> str:
    """The Server-Timing header: every stage in the order of its work, then the total, in milliseconds."""
    stages = timings.model_dump()
    total = stages.pop("total")
    if draw_ms is not None:
        stages["draw"] = round(draw_ms, 3)
    return ", ".join(f"{name};dur={ms}" for name, ms in {**stages, "total": total}.items())


def digest(entry: EmotionEntry) -> str:
    """The graph file's checksum, as the wire has it."""
    return f"sha256:{entry.sha256}"


def _face(analyzed: AnalyzedFace, include_crops: bool) -> FaceSchema:
    face = analyzed.face
    values = {name: _significant(p) for name, p in zip(EMOTIONS, analyzed.probabilities, strict=True)}
    return FaceSchema(
        box=BoxSchema(x=face.box.x, y=face.box.y, width=face.box.width, height=face.box.height),
        detection_confidence=_significant(face.confidence),
        landmarks=_landmarks(face.landmarks),
        dominant_emotion=analyzed.dominant_emotion,
        probabilities=Probabilities(**values),
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
