"""What the client refuses before anything is sent."""

import io
from collections.abc import Callable
from typing import Any, Unpack
from zipfile import ZipFile

import pytest

from fer_client import AsyncFerClient, Detection, FerClient, Image, Options, wire


@pytest.mark.parametrize("client", [FerClient, AsyncFerClient])
@pytest.mark.parametrize("key", ["schlüssel", "two\nlines", "tab\t", " secret "])
def test_a_key_that_no_header_holds_is_refused(client: Callable[..., object], key: str) -> None:
    with pytest.raises(ValueError, match="api_key: the header X-API-Key takes printable ASCII") as refused:
        client("http://fer", api_key=key)
    assert key not in str(refused.value)


OPENED_AS_TEXT = io.TextIOWrapper(io.BytesIO(b"\xff\xd8"), encoding="utf-8")


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        ("a.jpg", "str"),
        (7, "int"),
        (None, "NoneType"),
        (io.StringIO("a"), "StringIO"),
        (OPENED_AS_TEXT, "TextIOWrapper"),
    ],
)
def test_what_is_no_image_is_refused(image: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=rf"bytes, a pathlib\.Path or a file .* binary mode, not {kind}$"):
        wire.read(image)
    with FerClient("http://fer") as client, pytest.raises(TypeError, match=kind):
        client.detect(image)


def test_a_file_in_an_archive_is_a_binary_file() -> None:
    packed = io.BytesIO()
    with ZipFile(packed, "w") as archive:
        archive.writestr("photo.jpg", b"photo")
    with ZipFile(packed) as archive, archive.open("photo.jpg") as member:
        image: Image = member
        assert wire.read(image) == b"photo"


def test_any_bytes_are_an_image() -> None:
    images: list[Image] = [bytearray(b"photo"), memoryview(b"photo")]
    assert [wire.read(image) for image in images] == [b"photo"] * 2


def test_what_is_around_a_client_can_be_typed() -> None:
    def detect(client: FerClient, image: Image, **options: Unpack[Options]) -> Detection:
        return client.detect(image, **options)

    with FerClient("http://fer") as client, pytest.raises(TypeError, match="no option models"):
        detect(client, b"", models="fast")  # type: ignore[call-arg]
