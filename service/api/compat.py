"""deepface's request -> an image and what is wanted of it; a detection -> deepface's answer."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from urllib.parse import parse_qsl

from pydantic import ValidationError

from service.api.errors import EmptyBodyError, InvalidParameterError, MalformedBodyError
from service.api.schemas import (
    Analyzed,
    AnalyzedFaceSchema,
    AnalyzeRequest,
    Detection,
    FaceSchema,
    ImageInfo,
    Percentages,
    PointSchema,
    RegionSchema,
)
from service.api.uploads import Body, base64_bytes, form_values, json_model, too_many

_IMAGES = ("img", "img_path")
_TEXTS = tuple(name for name in AnalyzeRequest.model_fields if name not in _IMAGES)
# How often a form may have each field. A list is sent as one field for each of its words.
_MOST = dict.fromkeys((*_IMAGES, *_TEXTS), 1) | {"actions": 16}
_JSON_OBJECT = re.compile(rb"[ \t\r\n]*\{")
# A path or URL is short and all of it printable; no accepted image is.
_REFERENCE = re.compile(rb"[\x20-\x7e]{1,4096}\s*")
_MOST_FORM_FIELDS = 32
_MOST_ESCAPES = 1_000_000


@dataclass(frozen=True, slots=True)
class CompatRequest:
    """What a client of deepface asks for."""

    image: bytes
    enforce_detection: bool


def read_request(body: Body) -> CompatRequest:
    """Take a JSON, multipart or URL-encoded body apart.

    Raises EmptyBodyError or MalformedBodyError, and InvalidParameterError for what is not offered.
    """
    if body.content_type == "multipart/form-data":
        return _from_form(form_values(body, _MOST, _TEXTS))
    # `curl -d '{...}'`, as deepface documents it, calls the JSON a form.
    kind = "application/json" if _is_mislabelled_json(body) else body.content_type
    if kind == "application/x-www-form-urlencoded":
        return _from_form(_url_encoded(body.data))
    if not body.data:
        raise EmptyBodyError("the request has no body: send JSON with 'img', or a form with a file 'img'")
    if kind != "application/json":
        raise MalformedBodyError("the body must be application/json or a form")
    try:
        asked = json_model(AnalyzeRequest, body.data)
    except ValidationError as error:
        raise _refusal(error) from error
    return _checked(asked, _referenced(asked.img or asked.img_path or ""))


def analyzed(detection: Detection) -> Analyzed:
    """A detection in deepface's form."""
    return Analyzed(results=[_face(face, detection.image) for face in detection.faces])


def _is_mislabelled_json(body: Body) -> bool:
    form = body.content_type == "application/x-www-form-urlencoded"
    return form and _JSON_OBJECT.match(body.data) is not None


def _from_form(values: Mapping[str, list[bytes]]) -> CompatRequest:
    texts = {name: _text(values[name]) for name in _TEXTS if name in values}
    try:
        asked = AnalyzeRequest.model_validate(texts)
    except ValidationError as error:
        raise _refusal(error) from error
    image = next((value for name in _IMAGES for value in values.get(name, ()) if value), b"")
    if image.startswith(b"data:") or _REFERENCE.fullmatch(image):
        return _checked(asked, _referenced(image.decode("utf-8", "replace")))
    return _checked(asked, image)


def _text(values: list[bytes]) -> str | list[str]:
    """What a field says, which may be a whole list as text; repeated fields are a list, too."""
    texts = [value.decode("utf-8", "replace") for value in values]
    return texts[0] if len(texts) == 1 else texts


def _url_encoded(data: bytes) -> dict[str, list[bytes]]:
    # Each escape becomes an object of its own on the way; base64 has three characters to escape in 64.
    if data.count(b"%") > _MOST_ESCAPES:
        raise MalformedBodyError("the form escapes more than base64 needs")
    try:
        pairs = parse_qsl(data.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FORM_FIELDS)
    except ValueError as error:
        raise MalformedBodyError("the form does not parse") from error
    values: dict[str, list[bytes]] = {}
    for name, value in pairs:
        if name not in _MOST:
            continue
        found = values.setdefault(name, [])
        if len(found) == _MOST[name]:
            raise too_many(name, len(found), text=name in _TEXTS)
        found.append((_with_its_pluses(value) if name in _IMAGES else value).encode())
    return values


def _with_its_pluses(text: str) -> str:
    """A data: URI as it was before its client did not escape it: in a form a plus is a blank."""
    header, comma, rest = text.partition(",")
    return header + comma + rest.replace(" ", "+")


def _referenced(text: str) -> bytes:
    """The bytes in a data: URI; nothing else that deepface would follow is followed."""
    if text and not text.startswith("data:"):
        raise InvalidParameterError(
            "the field 'img' must be a base64 data: URI or a file; no path is read and no URL is fetched"
        )
    return base64_bytes(text, "img")


def _checked(asked: AnalyzeRequest, image: bytes) -> CompatRequest:
    if not image:
        raise EmptyBodyError("the request holds no image: send a data: URI or a file in field 'img'")
    words = re.findall(r"\w+", asked.actions) if isinstance(asked.actions, str) else asked.actions
    others = [word for word in words if word != "emotion"]
    if others or not words:
        told = ", ".join(repr(word[:40]) for word in others) or "none"
        raise InvalidParameterError(f"the field 'actions': only 'emotion' is offered, not {told}")
    if asked.detector_backend == "skip":
        raise InvalidParameterError(
            "the field 'detector_backend': 'skip' is not offered; a picture is no face until one is found"
        )
    if asked.anti_spoofing:
        raise InvalidParameterError("the field 'anti_spoofing': it is not offered")
    return CompatRequest(image, asked.enforce_detection)


def _refusal(error: ValidationError) -> MalformedBodyError | InvalidParameterError:
    problem = error.errors(include_input=False)[0]
    if not problem["loc"]:
        return MalformedBodyError(f"the JSON body is no object with 'img': {problem['msg']}")
    if problem["loc"][0] in _IMAGES:
        return InvalidParameterError(
            "the field 'img' is the text of one image; POST /detect-emotions/batch takes several"
        )
    return InvalidParameterError(f"the field '{problem['loc'][0]}': {problem['msg']}")


def _face(face: FaceSchema, image: ImageInfo) -> AnalyzedFaceSchema:
    scores = {name: float(f"{100 * value:.6g}") for name, value in asdict(face.probabilities).items()}
    box, marks = face.box, face.landmarks
    return AnalyzedFaceSchema(
        emotion=Percentages(**scores),
        dominant_emotion=face.dominant_emotion,
        region=RegionSchema(
            x=box.x,
            y=box.y,
            w=box.width,
            h=box.height,
            # deepface's eyes are the person's: the one on the viewer's right is the left one.
            left_eye=_inside(marks.right_eye, image),
            right_eye=_inside(marks.left_eye, image),
        ),
        face_confidence=round(face.detection_confidence, 2),
    )


def _inside(point: PointSchema, image: ImageInfo) -> tuple[int, int] | None:
    """Whole pixels; None where the point lies outside the image, as deepface has it."""
    inside = 0 <= point.x < image.width and 0 <= point.y < image.height
    return (int(point.x), int(point.y)) if inside else None
