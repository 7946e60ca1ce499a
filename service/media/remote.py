"""The same work, done by a running service (`--server`)."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Literal

import cv2
import httpx

from service.media.analyzers import Model, wire_face
from service.media.aside import Aside
from service.media.errors import RefusedError, ServerError
from service.telemetry.tracing import NO_TRACING, Tracing
from service.vision.pipeline import AnalysisOptions
from service.vision.types import (
    EMOTIONS,
    LANDMARKS,
    Analysis,
    AnalyzedFace,
    Box,
    Landmarks,
    Point,
    Timings,
    UInt8Array,
)

# A server that answered once is waited for; an address that never did may be a mistake.
_ATTEMPTS, _FIRST_ATTEMPTS = 8, 3
_LONGEST_WAIT_S = 30.0
# What is wrong with these is not the image: every other one would meet the same answer.
_RUN_CODES = frozenset({"unauthorized", "not_found", "method_not_allowed", "invalid_parameter"})
_AWAY = frozenset({429, 502, 503})
_RETRIED = _AWAY | {504}  # a service that is busy may be too late for any image
# What reading an answer raises that the service did not write.
_UNREADABLE = (ArithmeticError, KeyError, RecursionError, TypeError, ValueError)


class RemoteAnalyzer:
    """Sends images to a service and gives its answers back as an Analyzer does.

    url: where the service answers, with a path if it is mounted under one. api_key: for `X-API-Key`.
    A service that is full or gone is asked again a few times before the run is given up. tracing: each
    request is a span, whose context is sent along. wait: waits so many seconds.
    check: raises ServerError where nobody waits any more.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None,
        options: AnalysisOptions,
        wait: Callable[[float], None] = time.sleep,
        tracing: Tracing = NO_TRACING,
        *,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        # HTTP has no way to send others, and what httpx says of them would show the key.
        if api_key and not (api_key.isascii() and api_key.isprintable() and api_key == api_key.strip()):
            raise ServerError("the API key is not printable ASCII, or begins or ends with a space")
        headers = {"X-API-Key": api_key} if api_key else {}
        self._client = httpx.Client(headers=headers, timeout=60)
        self._url, self._wait, self._tracing, self._check = url.rstrip("/"), wait, tracing, check
        # What is told ends up in logs.
        self._shown = re.sub(r"//[^/?#]*@", "//", self._url)
        self._query = _query(options)
        try:
            self.model = self._find_model(options.model)
        except ServerError:
            self.close()
            raise

    def photo(self, data: bytes) -> Analysis:
        """See Analyzer. Raises RefusedError for this image, ServerError for the run."""
        if not data:  # the service would speak of a request that holds no image
            raise RefusedError("the file is empty")
        return self._read(self._post(data))

    def frame(self, pixels: UInt8Array) -> Analysis:
        """See Analyzer. Sent without loss; as JPEG only where the service says that is too large."""
        answer = self._post(_encoded(pixels, ".png"))
        if answer.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
            answer = self._post(_encoded(pixels, ".jpg"))
        return self._read(answer)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _read(self, answer: httpx.Response) -> Analysis:
        if answer.status_code != httpx.codes.OK:
            raise _error(answer)
        with self._understood():
            return _analysis(answer.json())

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Around the reading of an answer: raises ServerError where the service would not answer so."""
        try:
            yield
        except _UNREADABLE as error:
            raise ServerError(f"what answers at {self._shown} is not this service") from error

    def _post(self, data: bytes) -> httpx.Response:
        headers = {"Content-Type": "application/octet-stream", "Accept": "application/json"}
        url = f"{self._url}/detect-emotions"
        return self._patiently(
            lambda: self._traced(
                self._client.build_request("POST", url, content=data, params=self._query, headers=headers)
            )
        )

    def _find_model(self, name: str | None) -> Model:
        answer = self._patiently(
            lambda: self._traced(self._client.build_request("GET", f"{self._url}/models")), _FIRST_ATTEMPTS
        )
        if answer.status_code != httpx.codes.OK:
            raise ServerError(f"{self._shown}/models: {_detail(answer)}")
        with self._understood():
            models = answer.json()["models"]
            for model in models:
                if model["name"] == name or (name is None and model["default"]):
                    return Model(model["name"], model["version"], model["digest"], model["uncertain_below"])
            names = ", ".join(model["name"] for model in models)
        raise ServerError(f"no model {name!r} at {self._shown}: it has {names}")

    def _traced(self, request: httpx.Request) -> httpx.Response:
        # A query may hold what is nobody's business, and so may the name and password before a host.
        url = str(request.url.copy_with(userinfo=b"", query=None))
        with self._tracing.client(request.method, url) as span, closing(Aside(self._check)) as aside:
            request.headers.update(span.headers)
            answer = aside(lambda: self._client.send(request))
            span.ended(None, answer.status_code, None)
            return answer

    def _patiently(self, send: Callable[[], httpx.Response], attempts: int = _ATTEMPTS) -> httpx.Response:
        """The first answer that is more than a request to come back later."""
        for attempt in range(attempts):
            last = attempt == attempts - 1
            pause = min(0.25 * 2**attempt, _LONGEST_WAIT_S)
            try:
                answer = send()
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise ServerError(_no_url(self._url, error)) from error
            except (httpx.TransportError, httpx.DecodingError) as error:
                if last:
                    raise ServerError(f"{self._shown} cannot be reached: {error}") from error
            else:
                if last or answer.status_code not in _RETRIED:
                    return answer
                pause = _retry_after(answer, pause)
            self._wait(pause)
        raise AssertionError("the last attempt returns or raises")


def _query(options: AnalysisOptions) -> dict[str, str]:
    values = {
        "model": options.model,
        "min_face_size": options.min_face_size,
        "min_confidence": options.min_confidence or None,
        "max_faces": options.max_faces,
    }
    return {name: str(value) for name, value in values.items() if value is not None}


def _encoded(pixels: UInt8Array, suffix: Literal[".png", ".jpg"]) -> bytes:
    settings = {".png": [cv2.IMWRITE_PNG_COMPRESSION, 1], ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95]}
    _, data = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), settings[suffix])
    return data.tobytes()


def _retry_after(answer: httpx.Response, fallback: float) -> float:
    asked = answer.headers.get("Retry-After", "")
    return min(float(asked), _LONGEST_WAIT_S) if asked.isdecimal() else fallback


def _error(answer: httpx.Response) -> RefusedError | ServerError:
    whole_run = answer.status_code in _AWAY or _problem(answer).get("code") in _RUN_CODES
    return (ServerError if whole_run else RefusedError)(_detail(answer))


def _detail(answer: httpx.Response) -> str:
    problem = _problem(answer)
    return str(problem.get("detail") or f"the server answered {answer.status_code} {answer.reason_phrase}")


def _no_url(url: str, error: Exception) -> str:
    """Without all that is before an @: it may be a password that has a slash, or no http:// before it."""
    shown, reason = url.rpartition("@")[2], str(error)
    if shown != url and isinstance(error, httpx.InvalidURL):  # it quotes what it takes for a port
        reason = "in a name or a password, some characters are written as % and their code"
    return f"{shown!r} is no URL of a server: {reason}"


def _problem(answer: httpx.Response) -> dict[str, Any]:
    if "json" not in answer.headers.get("content-type", ""):
        return {}
    try:
        body = answer.json()
    except _UNREADABLE:
        return {}
    return body if isinstance(body, dict) else {}


def _analysis(answer: dict[str, Any]) -> Analysis:
    image = answer["image"]
    return Analysis(
        image["width"],
        image["height"],
        image["format"],
        image["exif_orientation"],
        tuple(map(_face, answer["faces"])),
        answer["model"]["name"],
        Timings(0, 0, 0, 0),
    )


def _face(face: dict[str, Any]) -> AnalyzedFace:
    marks = face["landmarks"]
    landmarks = Landmarks(*(Point(marks[name]["x"], marks[name]["y"]) for name in LANDMARKS))
    probabilities = [face["probabilities"][name] for name in EMOTIONS]
    return wire_face(
        Box(**face["box"]), face["detection_confidence"], landmarks, probabilities, face["uncertain"]
    )
