"""Requests around mutated pictures: raw, in forms and JSON mutated themselves, with odd parameters."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from urllib.parse import urlencode

from benchmarks.fuzz.mutations import mutated

NUMBERS = (
    *("0", "-1", "1", "12", "20", "40", "65535", "65536", "99999999999999999999", "1_000", "0x10", "", "x"),
    *("1e309", "1e-9", "nan", "inf", "-inf", "1.7976931348623157e308", "\u0661\u0662"),
)
ACCEPTS = ("image/jpeg", "image/png", "image/*;q=0.5", "text/html", "a/b;q=nan,,;", "")
BOUNDARY = b"------fer"
PARTS = (
    *(b"\r\n", b"--", BOUNDARY, b"\0", b'filename="', b";" * 500, b"\xff" * 300, b"a: b\r\n" * 40),
    *(b"Content-Disposition: form-data; name=" + name + b"\r\n\r\n" for name in (b"image", b"images", b"x")),
    b"Content-Transfer-Encoding: base64\r\n",
)
TOKENS = (
    *(b"{", b"}", b"[", b"]]]", b":", b",", b"null", b"NaN", b"1e999", b'"image"', b'"img"', b"[" * 2_000),
    *(b"\\ud800", b"\xef\xbb\xbf", b"\xff", b"data:image/png;base64,", b"data:,"),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One POST."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def case(number: int, pictures: Mapping[str, Sequence[bytes]]) -> Case:
    """The case of this number: always the same for the same pictures."""
    random = Random(number)  # noqa: S311 - the same case for the same number
    name = random.choice(sorted(pictures))
    picture = mutated(name, pictures[name], random)
    kind = random.random()
    if kind < 0.1:
        return _form(picture, random)
    if kind < 0.18:
        return _json(picture, random)
    path = "/detect-emotions"
    if random.random() < 0.05:
        names = ("min_face_size", "min_confidence", "max_faces", "include", "model")
        path += "?" + urlencode({name: random.choice(NUMBERS) for name in random.sample(names, 2)})
    accept = "*/*" if random.random() < 0.9 else random.choice(ACCEPTS)
    return Case(path, picture, {"accept": accept})


def _form(picture: bytes, random: Random) -> Case:
    path, name = random.choice(
        (("/detect-emotions", b"image"), ("/detect-emotions/batch", b"images"), ("/analyze", b"img"))
    )
    head = (
        b'Content-Disposition: form-data; name="%s"; filename="a"\r\nContent-Type: image/png\r\n\r\n' % name
    )
    part = b"--" + BOUNDARY + b"\r\n" + head + picture + b"\r\n"
    body = part * random.choice((1, 1, 1, 2, 20)) + b"--" + BOUNDARY + b"--\r\n"
    header = f"multipart/form-data; boundary={BOUNDARY.decode()}"
    if random.random() < 0.2:
        header = random.choice(
            ("multipart/form-data", "multipart/form-data; boundary=", header + "x", header.upper())
        )
    return Case(path, _with_tokens(body, PARTS, random), {"content-type": header})


def _json(picture: bytes, random: Random) -> Case:
    path, name = random.choice(
        (
            ("/detect-emotions", "image"),
            ("/detect-emotions/batch", "images"),
            ("/analyze", "img"),
            ("/analyze", "img_path"),
        )
    )
    text = base64.b64encode(picture).decode()
    value = random.choice(
        (text, "data:image/jpeg;base64," + text, [text], text[:-1], None, 5, {"image": text})
    )
    fields = {name: value}
    if path == "/analyze":  # the others refuse what they do not know
        fields["actions"] = random.choice((["emotion"], [], "emotion", ["age"], None))
    body = json.dumps(fields).encode()
    return Case(path, _with_tokens(body, TOKENS, random), {"content-type": "application/json"})


def _with_tokens(body: bytes, tokens: Sequence[bytes], random: Random) -> bytes:
    """The body with up to three tokens put in, or bytes taken out, mostly near its ends."""
    for _ in range(random.randrange(4)):
        at = random.choice((random.randrange(min(len(body), 200)), random.randrange(len(body))))
        end = at + random.choice((0, 0, 1, 30))
        body = body[:at] + random.choice(tokens) + body[end:]
    return body
