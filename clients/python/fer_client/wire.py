"""What both clients share: requests, answers, errors, and when to try again. No I/O but reading an image."""

import json
import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from io import BytesIO, TextIOBase
from pathlib import Path
from typing import Literal, Protocol, TypedDict

import httpx
from websockets.exceptions import ConnectionClosed, InvalidStatus, SecurityError
from websockets.frames import CloseCode
from websockets.typing import Subprotocol

from fer_client.errors import FerError
from fer_client.types import (
    BatchError,
    BatchOk,
    Detection,
    ModelInfo,
    Problem,
    StreamError,
    StreamFrame,
    parse,
    parse_either,
)


class BinaryFile(Protocol):
    """Any file opened in binary mode; what `zipfile` opens, for one, is no `typing.BinaryIO`."""

    def read(self) -> bytes:
        """All that is left."""


Image = bytes | bytearray | memoryview | os.PathLike[str] | BinaryFile
PictureFormat = Literal["jpeg", "png"]

PROTOCOL = Subprotocol("fer.v1")
NOT_TAKEN = "the service did not take the frame in time"
NOT_ANSWERED = "no answer came in time"
# Websockets' own wait for the other side's goodbye.
LONGEST_GOODBYE_S = 10.0


class Options(TypedDict, total=False):
    """What a caller may choose; what is left out is up to the service.

    model: one of `models()`; min_face_size: pixels of the upright image; min_confidence: 0 to 1;
    max_faces: only the largest so many; include_crops: add each face's crop.
    """

    model: str | None
    min_face_size: float | None
    min_confidence: float | None
    max_faces: int | None
    include_crops: bool


@dataclass(frozen=True, slots=True)
class Retry:
    """How often, and how long, to wait for a service that has too much to do, is starting, or went away.

    What is tried again are answers of status 503 and, from a gateway, 429 and 502, and connections that are
    refused, not made in time or broken off: a request changes nothing in the service, so that asking twice
    does no harm. Answers that do not come in time are not asked for again.

    attempts: requests in all, 1 for no retry; first: seconds before the second one where the service does not
    say, doubled each time; longest: an answer that asks for more seconds than that is an error at once.
    """

    attempts: int = 3
    first: float = 0.5
    longest: float = 30.0

    def wait(self, attempt: int, error: FerError | httpx.TransportError) -> float | None:
        """Seconds to wait after that attempt, counted from 1; None: give up."""
        if attempt >= self.attempts or not _passes(error):
            return None
        if isinstance(error, FerError) and error.retry_after is not None:
            return error.retry_after if error.retry_after <= self.longest else None
        # Spread, so that clients that were refused together do not come back together.
        grown = self.first * 2.0 ** min(attempt - 1, _DOUBLINGS)
        return min(self.longest, grown * random.uniform(0.5, 1.0))  # noqa: S311


_AWAY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE)
# Far beyond any `longest`, and within what a float holds.
_DOUBLINGS = 64


def _passes(error: FerError | httpx.TransportError) -> bool:
    """Whether the next attempt may well succeed."""
    if isinstance(error, FerError):
        return error.status in _AWAY
    return isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError | httpx.ConnectTimeout)


def read(image: Image) -> bytes:
    """The bytes of an image file, given as such, as a path or as an open binary file.

    Raises TypeError for anything else, a path as a string included, and OSError where a file cannot be read.
    """
    if isinstance(image, os.PathLike):
        return Path(image).read_bytes()
    # Of a photo that is opened as text a read raises UnicodeDecodeError.
    data = image.read() if hasattr(image, "read") and not isinstance(image, TextIOBase) else image
    if not isinstance(data, bytes | bytearray | memoryview):
        kind = type(image).__name__
        raise TypeError(f"an image is bytes, a pathlib.Path or a file opened in binary mode, not {kind}")
    return bytes(data)


def query(options: Options) -> dict[str, str]:
    """The options as query parameters. Raises TypeError for a name that is no option."""
    unknown = options.keys() - Options.__annotations__.keys()
    if unknown:
        # The service would pass over it, and answer as if nothing had been asked.
        names = ", ".join(Options.__annotations__)
        raise TypeError(f"no option {', '.join(sorted(unknown))}: there are {names}")
    plain = {name: value for name, value in options.items() if name != "include_crops"}
    given = {name: str(value) for name, value in plain.items() if value is not None}
    return given | {"include": "crops"} if options.get("include_crops") else given


def files(images: Iterable[Image]) -> list[tuple[str, tuple[str, BytesIO]]]:
    """A form's files; their names stay here. As files, for httpx sends these in parts and bytes whole."""
    return [("images", ("image", BytesIO(read(image)))) for image in images]


def headers(api_key: str | None) -> dict[str, str]:
    """What every request carries. Raises ValueError for a key that no header can hold."""
    if not api_key:
        return {}
    if not (api_key.isascii() and api_key.isprintable()) or api_key != api_key.strip():
        # Without the key itself: messages end up in logs.
        raise ValueError("api_key: the header X-API-Key takes printable ASCII, without spaces at its ends")
    return {"X-API-Key": api_key}


def stream_url(base_url: httpx.URL, options: Options) -> str:
    """Where a stream is opened: ws for http, wss for https."""
    path = base_url.raw_path.decode().rstrip("/") + "/stream"
    url = base_url.copy_with(scheme=base_url.scheme.replace("http", "ws"), raw_path=path.encode())
    return str(url.copy_with(params=query(options)))


def detection(response: httpx.Response) -> Detection:
    """The answer for one image."""
    with _understood(response.status_code):
        return parse(Detection, response.json())


def batch(response: httpx.Response) -> list[BatchOk | BatchError]:
    """The answers for a batch."""
    with _understood(response.status_code):
        return [parse_either(BatchOk, BatchError, item) for item in response.json()["results"]]


def picture(response: httpx.Response) -> bytes:
    """The annotated picture."""
    if not response.headers.get("content-type", "").startswith("image/"):
        raise not_ours(response.status_code)
    return response.content


def model_list(response: httpx.Response) -> list[ModelInfo]:
    """The models."""
    with _understood(response.status_code):
        return [parse(ModelInfo, item) for item in response.json()["models"]]


def stream_answer(message: str | bytes) -> StreamFrame | StreamError:
    """One answer of a stream."""
    with _understood():
        return parse_either(StreamFrame, StreamError, json.loads(message))


def checked(response: httpx.Response) -> httpx.Response:
    """The response itself; raises FerError where it is a refusal."""
    if response.is_success:
        return response
    waits, problem = _seconds_to_wait(response), _problem(response)
    if problem is None:
        detail = f"{response.status_code} {response.reason_phrase}"
        if response.has_redirect_location:
            detail += f", to {response.headers['location']}"
        raise FerError("http_error", detail, response.status_code, retry_after=waits)
    raise FerError(problem.code, problem.detail, response.status_code, problem.request_id, waits)


def _seconds_to_wait(response: httpx.Response) -> float | None:
    """What `Retry-After` asks for in either of its forms; None where it asks for nothing."""
    asked = response.headers.get("retry-after", "")
    if asked.isdecimal():
        return float(asked)
    until = _date(asked)
    # Against the clock that it was made by, where that is told.
    now = _date(response.headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds()) if until else None


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def frame_error(answer: StreamError) -> FerError:
    """A frame's refusal as an exception."""
    problem = answer.error
    return FerError(problem.code, problem.detail, problem.status, problem.request_id)


@contextmanager
def not_redirected() -> Iterator[None]:
    """Around the handshake of a stream, where websockets would follow and take the API key along.

    Raises SecurityError.
    """
    try:
        yield
    except InvalidStatus as refused:
        if refused.response.status_code // 100 != 3:
            raise
        raise SecurityError(f"{refused}: a redirect, and a stream follows none") from refused


@contextmanager
def told(request_id: str | None) -> Iterator[None]:
    """Raise what closed a stream as a FerError."""
    try:
        yield
    except ConnectionClosed as closed:
        raise _ending(closed, request_id) from closed


# What reading an answer raises that the service did not write.
_UNREADABLE = (ArithmeticError, KeyError, RecursionError, TypeError, ValueError)


@contextmanager
def _understood(status: int | None = None) -> Iterator[None]:
    """Around the reading of an answer. Raises FerError where it is not the service's."""
    try:
        yield
    except _UNREADABLE as error:
        raise not_ours(status) from error


def not_ours(status: int | None = None) -> FerError:
    """For what the service would not answer so."""
    return FerError("http_error", "what answers here is not fer-service", status)


def _ending(closed: ConnectionClosed, request_id: str | None) -> FerError:
    """Why a stream was closed; code `closed` where nothing was wrong."""
    frame = closed.rcvd
    if frame is None:
        return FerError("connection_lost", "the connection broke off", request_id=request_id, close_code=1006)
    if frame.code == CloseCode.NORMAL_CLOSURE:
        return FerError("closed", frame.reason, request_id=request_id, close_code=int(frame.code))
    code, _, detail = frame.reason.partition(": ")
    if not code.isidentifier():
        # The words of a WebSocket library, which cut off what was far too large before the service saw it.
        code = "body_too_large" if frame.code == CloseCode.MESSAGE_TOO_BIG else "connection_lost"
        detail = frame.reason
    return FerError(code, detail, request_id=request_id, close_code=int(frame.code))


def _problem(response: httpx.Response) -> Problem | None:
    """The problem details; None where something before the service answered."""
    try:
        return parse(Problem, response.json())
    except _UNREADABLE:
        return None
