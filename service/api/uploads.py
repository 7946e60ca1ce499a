"""Request bodies -> the bytes of images. Everything stays in memory, and limits hold while reading.

`read_body` runs on the event loop and only counts and joins; taking a body apart costs CPU, so
`single_image` and `batch_images` are called on a worker.
"""

import base64
import binascii
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from service.api.errors import BodyTooLargeError, EmptyBodyError, MalformedBodyError, TooManyImagesError
from service.api.schemas import JsonImage, JsonImages
from service.vision.errors import UnsupportedFormatError

# Form fields beside the images; more than a form could honestly have.
MAX_OTHER_PARTS = 16
# The images of the largest batch that may be set, and the comma in each one's data: URI.
MAX_JSON_VALUES = 3_000
_BLANKS = re.compile(rb"[ \t]+")
_NEWLINES = re.compile(rb"[\r\n]+")
_WHITESPACE = b" \t\n\r\v\f"
# How JSON that is called something else begins, and a data: URI outside of JSON; no image does.
_TEXTS = (b"{", b"data:")

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Body:
    """A whole request body and what its Content-Type header said."""

    data: bytes
    content_type: str
    boundary: bytes | None


async def read_body(request: Request, limit: int, grow: Callable[[int], None]) -> Body:
    """Read the body; stop with BodyTooLargeError at the first byte beyond `limit`.

    grow: told of every byte that is kept. Raises ClientDisconnect.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise BodyTooLargeError(_too_large(limit))
    chunks, size, more = [], 0, True
    while more:
        # Not `request.stream()`: an asynchronous generator costs the event loop a dozen calls.
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size > limit:
            raise BodyTooLargeError(_too_large(limit))
        chunks.append(chunk)
        grow(len(chunk))
    return described(b"".join(chunks), request.headers.get("content-type", ""))


def single_image(body: Body) -> bytes:
    """The image of a multipart, JSON or raw body.

    Raises EmptyBodyError, MalformedBodyError, and UnsupportedFormatError for base64 outside of JSON.
    """
    image = _single(body)
    if not image:
        raise EmptyBodyError("the request holds no image: send one in form field 'image', raw, or as JSON")
    if image.startswith(_TEXTS):
        raise UnsupportedFormatError(
            'the image is text; base64 is sent as JSON, {"image": "<base64>"}, '
            "with Content-Type: application/json"
        )
    return image


def batch_images(body: Body, most: int) -> Sequence[bytes | str]:
    """The files in form field `images`, or JSON's texts of that name, in order, for `one_of_batch`.

    Raises EmptyBodyError, MalformedBodyError or TooManyImagesError.
    """
    if not body.data:
        raise EmptyBodyError("the request has no body: send files in form field 'images', or JSON")
    if body.content_type == "application/json":
        return _json_images(body.data, most)
    if body.content_type != "multipart/form-data":
        raise MalformedBodyError(
            "a batch is multipart/form-data with files in field 'images', or application/json"
        )
    images = _form_files(body, "images", most)
    if not images:
        raise EmptyBodyError("the form has no field 'images'")
    return images


def one_of_batch(image: bytes | str) -> bytes:
    """The bytes of a file, or of a text in base64. Raises EmptyBodyError and MalformedBodyError."""
    data = base64_bytes(image, "images") if isinstance(image, str) else image
    if not data:
        raise EmptyBodyError("this file of the batch is empty")
    return data


def _single(body: Body) -> bytes:
    if not body.data:
        return b""
    if body.content_type == "multipart/form-data":
        files = _form_files(body, "image", 1)
        return files[0] if files else b""
    if body.content_type == "application/json":
        return _json_image(body.data)
    return body.data


def _json_image(data: bytes) -> bytes:
    try:
        text = json_model(JsonImage, data).image
    except ValidationError as error:
        raise MalformedBodyError(f'the JSON body is not {{"image": "<base64>"}}: {_reason(error)}') from error
    return base64_bytes(text, "image")


def _json_images(data: bytes, most: int) -> list[str]:
    try:
        images = json_model(JsonImages, data).images
    except ValidationError as error:
        raise MalformedBodyError(
            f'the JSON body is not {{"images": ["<base64>", ...]}}: {_reason(error)}'
        ) from error
    if not images:
        raise EmptyBodyError("the JSON body has no images")
    if len(images) > most:
        raise too_many("images", most, text=False)
    # With one character beyond ASCII Python holds a text in up to four times its bytes; base64 has none.
    return [text if text.isascii() else "?" for text in images]


def json_model(model: type[M], data: bytes) -> M:
    """The body as this model. Raises MalformedBodyError and pydantic's ValidationError."""
    # Parsed, each value takes twenty times its bytes or more, whatever the model has a use for.
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_JSON_VALUES:
        raise MalformedBodyError(f"the JSON body has more than {MAX_JSON_VALUES} values")
    return model.model_validate_json(data)


def base64_bytes(text: str, name: str) -> bytes:
    """What a field's base64 or `data:` URI holds. Raises MalformedBodyError."""
    if text.startswith("data:"):
        header, _, text = text.partition(",")
        if not header.endswith(";base64"):
            raise MalformedBodyError("the data: URI is not base64")
    try:
        # Encoders wrap lines; any other stranger is an error.
        return base64.b64decode(text.encode("ascii").translate(None, _WHITESPACE), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedBodyError(
            f"the field '{name}' is not base64; no path is read and no URL is fetched"
        ) from error


@dataclass(slots=True)
class _Form:
    """Collects the values of some form fields while the parser walks the body.

    most: of each, by name; texts: those of them that hold no image.
    """

    most: Mapping[str, int]
    texts: Collection[str]
    values: dict[str, list[bytes]] = field(default_factory=dict)
    _header: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)
    _disposition: bytes = b""
    _name: str = ""
    _data: bytearray | None = None
    _others: int = 0
    ended: bool = False

    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {
            "on_part_begin": self._begin_part,
            "on_part_data": self._part_data,
            "on_part_end": self._end_part,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_end": self._end,
        }

    def _begin_part(self) -> None:
        self._disposition, self._data = b"", None

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("latin-1")
        if self._name not in self.most:
            self._others += 1
            if self._others > MAX_OTHER_PARTS:
                raise MalformedBodyError(f"the form has more than {MAX_OTHER_PARTS} other fields")
            return
        most = self.most[self._name]
        if len(self.values.get(self._name, ())) == most:
            raise too_many(self._name, most, text=self._name in self.texts)
        self._data = bytearray()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._data is not None:
            self._data += memoryview(data)[start:end]

    def _end_part(self) -> None:
        if self._data is not None:
            self.values.setdefault(self._name, []).append(bytes(self._data))
        self._data = None

    def _end(self) -> None:
        self.ended = True


def _form_files(body: Body, name: str, most: int) -> list[bytes]:
    return form_values(body, {name: most}).get(name, [])


def too_many(name: str, most: int, *, text: bool) -> MalformedBodyError | TooManyImagesError:
    """What is raised where a form has a field more often than it may. text: it holds no image."""
    if text:
        return MalformedBodyError(f"the form has the field '{name}' more than {most} time(s)")
    return TooManyImagesError(f"the request has more than {most} file(s) in field '{name}'")


def form_values(body: Body, most: Mapping[str, int], texts: Collection[str] = ()) -> dict[str, list[bytes]]:
    """The values of these multipart fields, files or not, in order; fields that are missing are left out.

    most: how many a field may have, by its name; texts: fields that hold no image.

    Raises MalformedBodyError or TooManyImagesError.
    """
    if not body.boundary:
        raise MalformedBodyError("the multipart Content-Type has no boundary")
    form = _Form(most, texts)
    try:
        parser = MultipartParser(body.boundary, form.callbacks())  # type: ignore[arg-type]
        parser.write(_bare(body.data, b"--" + body.boundary))
        parser.finalize()
    except FormParserError as error:
        raise MalformedBodyError(f"the multipart body does not parse: {error}") from error
    if not form.ended:
        raise MalformedBodyError("the multipart body ends before its closing boundary")
    return form.values


def _bare(data: bytes, delimiter: bytes) -> bytes:
    """A multipart body without what RFC 2046 (section 5.1.1) allows before its first field.

    The parser knows neither a preamble nor blanks after the first delimiter, only after the others.
    """
    begins = _after(_NEWLINES, data, 0)
    if not data.startswith(delimiter, begins):
        newline = data.find(b"\r\n" + delimiter)
        if newline < 0:  # it is the parser that finds the fault
            return data
        begins = newline + 2
    ends = begins + len(delimiter)
    goes_on = _after(_BLANKS, data, ends)
    return b"".join((delimiter, memoryview(data)[goes_on:])) if (begins, ends) != (0, goes_on) else data


def _after(passed: re.Pattern[bytes], data: bytes, start: int) -> int:
    """Where what may be passed over ends."""
    found = passed.match(data, start)
    return found.end() if found else start


def described(data: bytes, header: str) -> Body:
    """A body, and what its Content-Type header says."""
    if ";" not in header:  # as of any image that is sent as it is
        return Body(data, header.strip().lower(), None)
    content_type, options = parse_options_header(header)
    return Body(data, content_type.decode("latin-1").lower(), options.get(b"boundary"))


def _too_large(limit: int) -> str:
    return f"the body is larger than {limit} bytes"


def _reason(error: ValidationError) -> str:
    return error.errors()[0]["msg"]
