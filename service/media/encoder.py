"""Writes annotated frames as a video. Needs the `[media]` extra."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from service.media.errors import SourceError
from service.vision.types import UInt8Array

# The finest clock that every container of this kind keeps.
_TICKS_PER_S = 90_000


class VideoWriter:
    """A video in which each frame is shown at its own time, until the next one.

    The picture's size is the first frame's; the codec is H.264 where it can be written, else MPEG-4.
    """

    def __init__(self, path: Path) -> None:
        """Raises SourceError where the suffix is of no format for such a video, or the folder is missing."""
        self._path, self._ticks = path, -1
        if not path.parent.is_dir():
            raise SourceError(f"{path} cannot be written as a video: there is no folder {path.parent}")
        with self._told():
            self._container: OutputContainer = av.open(str(path), "w")
            self._stream = _stream(self._container)

    def write(self, time_s: float, pixels: UInt8Array) -> None:
        """Add an (h, w, 3) RGB frame. Raises SourceError where it cannot be written."""
        even = _even(pixels)
        if self._ticks < 0:
            self._stream.height, self._stream.width = even.shape[:2]
        frame = VideoFrame.from_ndarray(even, format="rgb24")
        self._ticks = max(self._ticks + 1, round(time_s * _TICKS_PER_S))
        frame.pts, frame.time_base = self._ticks, Fraction(1, _TICKS_PER_S)
        with self._told():
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what the encoder still holds and complete the file. Raises SourceError where that fails."""
        with self._told(), closing(self._container):
            if self._ticks >= 0:
                self._container.mux(self._stream.encode())

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, OSError, av.FFmpegError) as error:
            raise SourceError(f"{self._path} cannot be written as a video: {error}") from error


def _stream(container: OutputContainer) -> VideoStream:
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    stream = container.add_stream(codec, rate=30)
    assert isinstance(stream, VideoStream)
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = Fraction(1, _TICKS_PER_S)
    return stream


def _even(pixels: UInt8Array) -> UInt8Array:
    # Chroma is stored for two by two pixels. An odd row or column at the end goes, an only one is doubled.
    for axis in (0, 1):
        if pixels.shape[axis] == 1:
            pixels = np.repeat(pixels, 2, axis)
    height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
    return np.ascontiguousarray(pixels[:height, :width])
