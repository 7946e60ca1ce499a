"""Every failure that a client can meet, and the one table that gives it a status and a code.

Exception
 + ServiceError              raised here, by the HTTP side
 |  + EmptyBodyError         + MalformedBodyError     + BodyTooLargeError
 |  + TooManyImagesError     + NotAcceptableError     + InvalidParameterError
 |  + UnauthorizedError      + ForbiddenOriginError   + NotReadyError
 |  + NoFaceError
 + ImageError                raised by the decoder
 |  + UnsupportedFormatError + InvalidImageError      + ImageTooLargeError
 |  + NotEncodableError       raised before the picture is drawn
 + UnknownModelError         raised by the pipeline
 + OverloadedError, ClosedError, ExpiredError         raised by the engine; so is UnwantedError, which
                                                     nobody is left to be told of
 + DecoderError              raised by the decoder pool
 + TooManyStreamsError       raised when one more stream is opened

Answers are RFC 9457 problem details, and for a WebSocket a close frame that names their code; anything that
is not in the table is an `internal_error`.
"""

import traceback
from dataclasses import dataclass

import structlog
from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from service.api import sockets
from service.api.schemas import Problem
from service.runtime.deadline import ExpiredError
from service.runtime.decoder_pool import DecoderError
from service.runtime.engine import ClosedError, OverloadedError
from service.runtime.streams import TooManyStreamsError
from service.vision.errors import (
    ImageTooLargeError,
    InvalidImageError,
    NotEncodableError,
    UnsupportedFormatError,
)
from service.vision.pipeline import UnknownModelError

PROBLEM_MEDIA_TYPE = "application/problem+json"


class ServiceError(Exception):
    """The message is for the client: no path, no internals."""


class EmptyBodyError(ServiceError):
    """No bytes, no file, or the field is missing."""


class MalformedBodyError(ServiceError):
    """Multipart, JSON or base64 that does not parse."""


class BodyTooLargeError(ServiceError):
    """More bytes than a body may have; reading stopped there."""


class TooManyImagesError(ServiceError):
    """More files than a batch may have."""


class NotAcceptableError(ServiceError):
    """An Accept header that no answer satisfies."""


class InvalidParameterError(ServiceError):
    """A query value or header out of range."""


class UnauthorizedError(ServiceError):
    """A key is asked for, and it is missing or wrong."""


class ForbiddenOriginError(ServiceError):
    """A page of another site opened a WebSocket."""


class NotReadyError(ServiceError):
    """The service is loading or draining."""


class NoFaceError(ServiceError):
    """A caller of the compatible endpoint asked for an error where there is no face."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How one failure looks on the wire."""

    code: str
    status: int
    title: str


INTERNAL = Kind("internal_error", 500, "The service failed")
NOT_FOUND = Kind("not_found", 404, "No such resource")
METHOD_NOT_ALLOWED = Kind("method_not_allowed", 405, "The resource does not support this method")
NOT_ACCEPTABLE = Kind("not_acceptable", 406, "No answer satisfies the Accept header")
INVALID_PARAMETER = Kind("invalid_parameter", 422, "A parameter has a value that it cannot have")
DEADLINE_EXCEEDED = Kind("deadline_exceeded", 504, "The request ran past its deadline")
OVERLOADED = Kind("overloaded", 503, "The service has too much to do")
NOT_READY = Kind("not_ready", 503, "The service is loading or draining")

KINDS: dict[type[Exception], Kind] = {
    EmptyBodyError: Kind("empty_body", 400, "The request holds no image"),
    MalformedBodyError: Kind("malformed_body", 400, "The body does not parse"),
    BodyTooLargeError: Kind("body_too_large", 413, "The body is too large"),
    TooManyImagesError: Kind("too_many_images", 413, "The form holds too many images"),
    NotAcceptableError: NOT_ACCEPTABLE,
    NotEncodableError: NOT_ACCEPTABLE,
    InvalidParameterError: INVALID_PARAMETER,
    UnauthorizedError: Kind("unauthorized", 401, "A valid API key is needed"),
    ForbiddenOriginError: Kind("forbidden_origin", 403, "Pages of this origin may not use the service"),
    ExpiredError: DEADLINE_EXCEEDED,
    NotReadyError: NOT_READY,
    NoFaceError: Kind("face_not_detected", 400, "The image shows no face"),
    UnsupportedFormatError: Kind("unsupported_media_type", 415, "The bytes are in no accepted image format"),
    InvalidImageError: Kind("invalid_image", 422, "The image does not decode"),
    ImageTooLargeError: Kind("image_too_large", 413, "The image has too many pixels"),
    UnknownModelError: INVALID_PARAMETER,
    OverloadedError: OVERLOADED,
    TooManyStreamsError: OVERLOADED,
    ClosedError: NOT_READY,
    DecoderError: OVERLOADED,
}
ALL_KINDS = tuple(dict.fromkeys([*KINDS.values(), NOT_FOUND, METHOD_NOT_ALLOWED, INTERNAL]))


def kind_of(error: Exception) -> Kind:
    """The row of the table for an exception; `internal_error` for one that is not in it."""
    return KINDS.get(type(error), INTERNAL)


def problem_of(error: Exception, request_id: str) -> Problem:
    """Problem details. What is not in the table keeps its text to itself and is logged."""
    kind = kind_of(error)
    if kind is INTERNAL:
        # As text: renderers that format tracebacks themselves may print local variables, and so pixels.
        trace = "".join(traceback.format_exception(error))
        structlog.get_logger("fer").error("internal error", exception=trace)
        return problem_details(
            kind, "An unexpected error occurred; the log has it under this request id.", request_id
        )
    text = str(error)
    return problem_details(kind, text[:1].upper() + text[1:], request_id)


def problem_details(kind: Kind, detail: str, request_id: str) -> Problem:
    """Problem details of a kind, whatever the exception."""
    return Problem(
        type=f"urn:fer-service:problem:{kind.code}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        code=kind.code,
        request_id=request_id,
    )


def error_response(error: Exception, request_id: str) -> Response:
    """The answer to a request that failed with this exception."""
    problem = problem_of(error, request_id)
    response = _respond(problem)
    if isinstance(error, OverloadedError):
        response.headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, UnauthorizedError):
        response.headers["WWW-Authenticate"] = "ApiKey"
    return response


def install_error_handlers(app: FastAPI) -> None:
    """Answer every exception of the table, and the framework's own, with problem details."""
    for error_type in KINDS:
        # Starlette's types have no handler that is for requests and for sockets.
        app.add_exception_handler(error_type, _on_known_error)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _on_invalid_parameter)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _on_http_error)


async def _on_known_error(connection: Request | WebSocket, error: Exception) -> Response | None:
    _count(connection, kind_of(error))
    if isinstance(connection, WebSocket):
        await sockets.refuse(connection, problem_of(error, connection.state.request_id))
        return None
    return error_response(error, connection.state.request_id)


async def _on_invalid_parameter(connection: Request | WebSocket, error: Exception) -> Response | None:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    _count(connection, INVALID_PARAMETER)
    # Where a parameter has several values, the place ends with the number of the one that is wrong.
    name = [part for part in first["loc"] if isinstance(part, str)][-1]
    detail = f"{name}: {first['msg']}"
    problem = problem_details(INVALID_PARAMETER, detail, connection.state.request_id)
    if isinstance(connection, WebSocket):
        await sockets.refuse(connection, problem)
        return None
    return _respond(problem)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = METHOD_NOT_ALLOWED if error.status_code == METHOD_NOT_ALLOWED.status else NOT_FOUND
    _count(request, kind)
    detail = f"{request.method} is not possible on this path, or nothing is there."
    response = _respond(problem_details(kind, detail, request.state.request_id))
    response.headers.update(error.headers or {})
    return response


def _count(connection: HTTPConnection, kind: Kind) -> None:
    connection.app.state.metrics.rejected(kind.code)
    connection.state.problem_code = kind.code


def _respond(problem: Problem) -> Response:
    return Response(problem.model_dump_json(), problem.status, media_type=PROBLEM_MEDIA_TYPE)
