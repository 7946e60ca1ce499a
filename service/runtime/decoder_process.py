"""A process that decodes pictures: what a decoder library does to it, the service survives.

`decoder_pool` starts it and speaks with it over a socket, its standard input. Question and answer are each a
`HEAD` with two lengths, a JSON object and bytes: those of the encoded picture, and those of the pixels.
"""

import json
import os
import signal
import socket
import struct
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import Image

from service.vision.errors import InvalidImageError
from service.vision.image import decode_picture
from service.vision.types import DecodedImage, Header

if sys.platform != "win32":  # where nothing here is used but HEAD
    import resource

HEAD = struct.Struct(">II")

# What a picture may cost, more than the dearest honest one does: see docs/reliability.md.
CPU_SECONDS, CPU_SECONDS_PER_PIXEL = 2.0, 0.25e-6
MEMORY_BYTES, MEMORY_BYTES_PER_PIXEL = 128_000_000, 20

_MEMORY_STATUS = Path("/proc/self/statm")


def main() -> None:
    """Answer questions until the service closes the socket."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # meant for the service, which may still need this process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would keep a picture
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff writes down what it dislikes
    Image.MAX_IMAGE_PIXELS = None  # the service has its own limit
    cv2.setNumThreads(1)
    connection = socket.socket(fileno=0)
    questions = connection.makefile("rb")
    while lengths := questions.read(HEAD.size):
        text_length, length = HEAD.unpack(lengths)
        _answer(connection, json.loads(_receive(questions, text_length)), _receive(questions, length))
        _lift_limits()


def _answer(connection: socket.socket, question: dict[str, Any], body: bytes) -> None:
    """Decode within the limits of the picture's size, and send the outcome."""
    min_face = question.pop("min_face")
    header = Header(body=body, **{name: _tuple(value) for name, value in question.items()})
    _limit(header.size[0] * header.size[1])
    try:
        image = decode_picture(header, min_face)
    except InvalidImageError as error:
        _send(connection, {"error": str(error)}, memoryview(b""))
    else:
        _send(connection, _described(image), np.ascontiguousarray(image.pixels).data.cast("B"))


def _limit(pixels: int) -> None:
    """Let this process use no more memory, and die of SIGPROF beyond more CPU time, than a picture may."""
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS + CPU_SECONDS_PER_PIXEL * pixels)
    if not _MEMORY_STATUS.exists():
        return  # not Linux
    now = int(_MEMORY_STATUS.read_bytes().split()[0]) * resource.getpagesize()
    most = now + MEMORY_BYTES + MEMORY_BYTES_PER_PIXEL * pixels
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(
        resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
    )


def _lift_limits() -> None:
    """What limits one picture is not for the next one, which may be far larger, while it comes in."""
    signal.setitimer(signal.ITIMER_PROF, 0)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _described(image: DecodedImage) -> dict[str, Any]:
    """All but the pixels, of which only the shape."""
    plain = {field.name: getattr(image, field.name) for field in fields(image) if field.name != "pixels"}
    return plain | {"rows": image.pixels.shape[0], "columns": image.pixels.shape[1]}


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _send(connection: socket.socket, answer: dict[str, Any], data: memoryview) -> None:
    text = json.dumps(answer).encode()
    connection.sendall(HEAD.pack(len(text), len(data)) + text)
    connection.sendall(data)


def _receive(questions: BinaryIO, length: int) -> bytes:
    """So many bytes, no fewer, and in memory once."""
    data = questions.read(length)
    if len(data) < length:
        raise SystemExit  # the service is gone
    return data


if __name__ == "__main__":
    main()
