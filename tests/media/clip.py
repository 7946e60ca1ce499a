"""Films made from the astronaut photo, of which it is known how many faces each frame shows."""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from service.vision.types import UInt8Array
from tests.conftest import PHOTO

WIDTH, HEIGHT = 480, 272
FPS = 10
_SIDE = 200


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the astronaut is. x: left edge; angle: degrees; mirrored: turned the other way."""

    x: int
    angle: float = 0
    mirrored: bool = False


def act() -> list[tuple[Pose | None, int | None]]:
    """Ten frames moving and leaning, four turned, ten leaving, eight gone: pose and number of faces.

    While the face is cut by the edge, None: a detector may say either.
    """
    moving = [(Pose(20 + 12 * i, angle=10 - 2 * i), 1) for i in range(10)]
    turned = [(Pose(140 + 12 * i, mirrored=True), 1) for i in range(4)]
    leaving = [(Pose(200 + 30 * i), None) for i in range(10)]
    return [*moving, *turned, *leaving, *[(None, 0)] * 8]


def frame(pose: Pose | None) -> UInt8Array:
    """(HEIGHT, WIDTH, 3): the astronaut's head before a quiet background."""
    canvas = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    canvas[:] = np.linspace(60, 150, WIDTH, dtype=np.uint8)[None, :, None]
    if pose:
        picture = _posed(pose)
        left, right = max(0, pose.x), min(WIDTH, pose.x + _SIDE)
        if right > left:
            canvas[36 : 36 + _SIDE, left:right] = picture[:, left - pose.x : right - pose.x]
    return canvas


def write(
    path: Path,
    pictures: Sequence[UInt8Array],
    times: Sequence[float] | None = None,
    aspect: Fraction | None = None,
) -> Path:
    """A film of these pictures, at these seconds (default: ten a second)."""
    times = times or [i / FPS for i in range(len(pictures))]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "12", "preset": "veryfast"})
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for picture, time in zip(pictures, times, strict=True):
            encoded = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            encoded.pts, encoded.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(encoded))
        container.mux(stream.encode())
    return path


def flag(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Put a display matrix (a, b, c, d) into an MP4's track header, as a phone does."""
    data = bytearray(path.read_bytes())
    # Version 0 of the header: 4 bytes of name, then 40 to the matrix; 16.16 fixed point, the last 2.30.
    start = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def head() -> UInt8Array:
    """(200, 200, 3): the astronaut's head."""
    photo = np.asarray(Image.open(io.BytesIO(PHOTO.read_bytes())).convert("RGB"), np.uint8)
    return photo[10 : 10 + _SIDE, 120 : 120 + _SIDE]


def _posed(pose: Pose) -> UInt8Array:
    picture = head()[:, ::-1] if pose.mirrored else head()
    turn = cv2.getRotationMatrix2D((_SIDE / 2, _SIDE / 2), pose.angle, 1)
    turned = cv2.warpAffine(
        np.ascontiguousarray(picture), turn, (_SIDE, _SIDE), borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(turned, np.uint8)
