"""What one photo's result looks like in the outputs."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from service.media.analyzers import Model
from service.vision.types import EMOTIONS, LANDMARKS, Analysis, AnalyzedFace, Landmarks

Record = dict[str, Any]
Row = dict[str, Any]
Columns = Mapping[str, type]

# They break a line, or tell a terminal what to do; names of files may hold them.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
BOX_COLUMNS: Columns = {"x": int, "y": int, "width": int, "height": int}
EMOTION_COLUMNS: Columns = {
    "dominant_emotion": str,
    **dict.fromkeys(EMOTIONS, float),
    "uncertain": bool,
    "model": str,
}
# One row for each face; a photo without a face, or one that failed, has a row with those columns empty.
PHOTO_COLUMNS: Columns = {
    "file": str,
    "status": str,
    "error": str,
    "image_width": int,
    "image_height": int,
    "faces": int,
    "face": int,
    **BOX_COLUMNS,
    "detection_confidence": float,
    **{f"{point}_{axis}": float for point in LANDMARKS for axis in "xy"},
    **EMOTION_COLUMNS,
}


def photo_record(file: str, analysis: Analysis, model: Model) -> Record:
    """A photo that was analyzed: the fields of `POST /detect-emotions`, and `file` and `status`."""
    return {
        "file": file,
        "status": "ok",
        "image": {
            "width": analysis.width,
            "height": analysis.height,
            "format": analysis.format,
            "exif_orientation": analysis.exif_orientation,
        },
        "faces": [face_record(face) for face in analysis.faces],
        "model": {"name": model.name, "version": model.version, "digest": model.digest},
    }


def failed_record(file: str, reason: str) -> Record:
    """A photo that could not be analyzed."""
    return {"file": file, "status": "error", "error": reason}


def readable(name: str) -> str:
    r"""A file's name for an output, which is UTF-8: bytes of the name that are not read `\xe9`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def on_one_line(text: str) -> str:
    r"""For people: a line break in the name of a file reads `\n`."""
    return _CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)


def face_record(face: AnalyzedFace) -> Record:
    """One face, as the wire has it."""
    return {
        "box": box_fields(face),
        "detection_confidence": face.face.confidence,
        "landmarks": _landmarks(face.face.landmarks),
        "dominant_emotion": face.dominant_emotion,
        "probabilities": dict(zip(EMOTIONS, face.probabilities, strict=True)),
        "uncertain": face.uncertain,
    }


def box_fields(face: AnalyzedFace) -> Row:
    """The columns of a box."""
    box = face.face.box
    return {"x": box.x, "y": box.y, "width": box.width, "height": box.height}


def photo_rows(record: Record) -> Iterator[Row]:
    """The rows of PHOTO_COLUMNS that a record stands for; columns that do not apply are left out."""
    head: Row = {key: record[key] for key in ("file", "status", "error") if key in record}
    if record["status"] != "ok":
        yield head
        return
    faces = record["faces"]
    head |= {
        "image_width": record["image"]["width"],
        "image_height": record["image"]["height"],
        "faces": len(faces),
    }
    for number, face in enumerate(faces):
        yield head | {"face": number} | _face_columns(face) | {"model": record["model"]["name"]}
    if not faces:
        yield head


def _face_columns(face: Record) -> Row:
    return {
        **face["box"],
        "detection_confidence": face["detection_confidence"],
        **{f"{name}_{axis}": point[axis] for name, point in face["landmarks"].items() for axis in "xy"},
        "dominant_emotion": face["dominant_emotion"],
        **face["probabilities"],
        "uncertain": face["uncertain"],
    }


def _landmarks(marks: Landmarks) -> Record:
    named = zip(LANDMARKS, marks.points, strict=True)
    return {name: {"x": point.x, "y": point.y} for name, point in named}
