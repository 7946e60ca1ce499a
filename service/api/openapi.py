"""What the OpenAPI document says beyond the types: bodies that are read by hand, examples, errors."""

from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter

from service.api.deps import TIMEOUT_HEADER, DetectQuery
from service.api.errors import (
    ALL_KINDS,
    INVALID_PARAMETER,
    KINDS,
    PROBLEM_MEDIA_TYPE,
    Kind,
    problem_details,
)
from service.api.schemas import (
    AnalyzeRequest,
    JsonImage,
    JsonImages,
    Problem,
    StreamError,
    StreamFrame,
    Unvalidated,
)
from service.vision.errors import InvalidImageError
from service.vision.headers import ACCEPTED_FORMATS

Json = dict[str, Any]
Responses = dict[int | str, Json]

_BINARY: Json = {"type": "string", "format": "binary"}
_REQUEST_ID = "0f8fad5bd9cb469fa16570867728950e"

DETECTION_EXAMPLE: Json = {
    "image": {"width": 1280, "height": 720, "format": "jpeg", "exif_orientation": 1},
    "faces": [
        {
            "box": {"x": 412, "y": 120, "width": 188, "height": 231},
            "detection_confidence": 0.9987,
            "landmarks": {
                "left_eye": {"x": 462.1, "y": 214.0},
                "right_eye": {"x": 549.6, "y": 212.3},
                "nose": {"x": 507.9, "y": 262.4},
                "mouth_left": {"x": 470.2, "y": 300.8},
                "mouth_right": {"x": 543.1, "y": 299.5},
            },
            "dominant_emotion": "happy",
            "probabilities": {
                "angry": 0.0102,
                "disgust": 0.0007,
                "fear": 0.0093,
                "happy": 0.9301,
                "sad": 0.0098,
                "surprise": 0.0197,
                "neutral": 0.0202,
            },
            "uncertain": False,
        }
    ],
    "model": {"name": "balanced", "version": "1", "digest": "sha256:" + "0123456789abcdef" * 4},
    "timings_ms": {"queue": 0.1, "decode": 2.0, "detect": 8.1, "crop": 0.1, "classify": 1.2, "total": 11.6},
}


def _query_parameters(model: type[BaseModel]) -> list[Json]:
    """What a query may hold that is read by hand, as this model."""
    found = []
    for name, schema in model.model_json_schema()["properties"].items():
        if "anyOf" in schema:  # of a type or null, which is what a query leaves out
            del schema["default"]
            schema.update(schema.pop("anyOf")[0])
        found.append(_parameter(name, "query", schema))
    return found


def _parameter(name: str, place: str, schema: Json) -> Json:
    found = {"name": name, "in": place, "required": False, "schema": schema}
    return found | {"description": schema["description"]}


# Of every route that analyzes images.
PARAMETERS: Json = {
    "parameters": [
        *_query_parameters(DetectQuery),
        _parameter(
            TIMEOUT_HEADER,
            "header",
            {
                "type": "string",
                "description": "Shortens the deadline of this request; never lengthens it.",
            },
        ),
    ]
}

# Its answer has no place for crops.
ANALYZE_PARAMETERS: Json = {
    "parameters": [parameter for parameter in PARAMETERS["parameters"] if parameter["name"] != "include"]
}


def _problem_example(kind: Kind) -> Json:
    """Problem details as a client would get them."""
    return problem_details(kind, _DETAILS[kind.code], _REQUEST_ID).model_dump()


_DETAILS = {
    "empty_body": "The request holds no image: send one in form field 'image', raw, or as JSON",
    "malformed_body": "The field 'image' is not base64; no path is read and no URL is fetched",
    "body_too_large": "The body is larger than 20000000 bytes",
    "too_many_images": "The request has more than 16 file(s) in field 'images'",
    "not_acceptable": "This resource answers in application/json, image/jpeg, image/png",
    "invalid_parameter": "min_face_size: Input should be greater than or equal to 12",
    "unauthorized": "The header X-API-Key is missing or holds no valid key",
    "deadline_exceeded": "The request ran past its deadline",
    "not_ready": "The service is shutting down",
    "face_not_detected": "No face was found; send enforce_detection=false for an empty list instead",
    "unsupported_media_type": f"The bytes are no image of an accepted format ({', '.join(ACCEPTED_FORMATS)})",
    "invalid_image": "The JPEG image does not decode",
    "image_too_large": "The image claims 20000 x 20000 pixels, more than the limit of 64000000 pixels",
    "overloaded": "The service has as many requests as it can answer in time",
    "internal_error": "An unexpected error occurred; the log has it under this request id.",
}


def problem_responses(*codes: str) -> Responses:
    """The `responses` of a route that can fail with these codes, one example each."""
    kinds = [kind for kind in ALL_KINDS if kind.code in codes]
    return {status: _problem_response(status, kinds) for status in sorted({kind.status for kind in kinds})}


def _problem_response(status: int, kinds: list[Kind]) -> Json:
    same = [kind for kind in kinds if kind.status == status]
    examples = {kind.code: {"value": _problem_example(kind)} for kind in same}
    response: Json = {
        "description": "; ".join(kind.title for kind in same),
        "content": {
            PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}
        },
    }
    if any(kind.code == "overloaded" for kind in same):
        response["headers"] = {
            "Retry-After": {"description": "Whole seconds.", "schema": {"type": "integer", "minimum": 1}}
        }
    return response


_COMMON = (
    "empty_body",
    "malformed_body",
    "body_too_large",
    "not_acceptable",
    "invalid_parameter",
    "unauthorized",
    "deadline_exceeded",
    "not_ready",
    "overloaded",
    "internal_error",
)
_ONE_IMAGE = ("unsupported_media_type", "invalid_image", "image_too_large", "too_many_images")

_DETECT_HEADERS: Json = {
    "Server-Timing": {
        "description": "Milliseconds of each stage: queue, decode, detect, crop, classify, "
        "draw (pictures only), total.",
        "schema": {"type": "string"},
    },
    "X-Faces": {
        "description": "How many faces were found. Pictures only.",
        "schema": {"type": "integer", "minimum": 0},
    },
}
DETECT_RESPONSES: Responses = {
    200: {
        "description": "The faces as JSON, or drawn on the picture where `Accept` asks for one.",
        "headers": _DETECT_HEADERS,
        "content": {
            "application/json": {"example": DETECTION_EXAMPLE},
            "image/jpeg": {"schema": _BINARY},
            "image/png": {"schema": _BINARY},
        },
    },
    **problem_responses(*_COMMON, *_ONE_IMAGE),
}
BATCH_RESPONSES: Responses = {
    200: {
        "content": {
            "application/json": {
                "example": {
                    "results": [
                        {"status": "ok", "result": DETECTION_EXAMPLE},
                        {"status": "error", "error": _problem_example(KINDS[InvalidImageError])},
                    ]
                }
            }
        }
    },
    **problem_responses(*_COMMON, "too_many_images"),
}
_DATA_URI = "data:image/jpeg;base64,/9j/4AAQSkZJRgABAQAAAQABAAD..."

DETECT_BODY: Json = {
    "requestBody": {
        "required": True,
        "description": "One image: " + ", ".join(ACCEPTED_FORMATS) + ". The format is told from the bytes.",
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["image"], "properties": {"image": _BINARY}}
            },
            "application/json": {
                "schema": {"$ref": "#/components/schemas/JsonImage"},
                "example": {"image": _DATA_URI},
            },
            "image/*": {"schema": _BINARY},
            "application/octet-stream": {"schema": _BINARY},
        },
    }
}
BATCH_BODY: Json = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {"images": {"type": "array", "items": _BINARY}},
                }
            },
            "application/json": {
                "schema": {"$ref": "#/components/schemas/JsonImages"},
                "example": {"images": [_DATA_URI, "/9j/4AAQSkZJRgABAQAAAQABAAD..."]},
            },
        },
    }
}

ANALYZE_RESPONSES: Responses = problem_responses(*_COMMON, *_ONE_IMAGE, "face_not_detected")
_ANALYZE_EXAMPLE: Json = {
    "img": _DATA_URI,
    "actions": ["emotion"],
}


def _analyze_form(image: Json) -> Json:
    return {
        "schema": {
            "type": "object",
            "required": ["img"],
            "properties": {
                "img": image,
                "actions": {"type": "string", "example": '["emotion"]'},
                "enforce_detection": {"type": "boolean", "default": True},
            },
        }
    }


ANALYZE_BODY: Json = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/AnalyzeRequest"},
                "example": _ANALYZE_EXAMPLE,
            },
            "multipart/form-data": _analyze_form(_BINARY),
            "application/x-www-form-urlencoded": _analyze_form(
                {"type": "string", "description": "The image as a base64 `data:` URI."}
            ),
        },
    }
}


_Mode = Literal["validation", "serialization"]
# What no route's signature names: bodies read by hand, problems, and what goes over the WebSocket.
_UNLISTED: tuple[tuple[tuple[type[Unvalidated | BaseModel], ...], _Mode], ...] = (
    ((Problem, JsonImage, JsonImages, AnalyzeRequest), "validation"),
    ((StreamFrame, StreamError), "serialization"),
)


def complete(document: Json) -> Json:
    """Add the schemas that hand-read bodies and problems refer to; drop the framework's names and errors."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    _, definitions = TypeAdapter.json_schemas(
        [(kind.__name__, mode, TypeAdapter(kind)) for kinds, mode in _UNLISTED for kind in kinds],
        ref_template="#/components/schemas/{model}",
    )
    schemas.update({name: schema for name, schema in definitions["$defs"].items() if name not in schemas})
    for path, operations in document["paths"].items():
        for operation in operations.values():
            # What generated clients call it; the framework says path and method in it a second time.
            operation["operationId"] = path.strip("/").translate(str.maketrans("/-", "__"))
            _drop_framework_errors(operation["responses"])
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    return document


def _drop_framework_errors(responses: Json) -> None:
    content = responses.get("422", {}).get("content", {})
    content.pop("application/json", None)
    if "422" in responses and not content:
        responses["422"] = _problem_response(INVALID_PARAMETER.status, [INVALID_PARAMETER])
