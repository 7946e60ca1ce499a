"""Writes annotated frames as a video. Needs the `[media]` extra."""

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
        """Raises SourceError where the path's suffix is no video format or the file cannot be made."""
        try:
            self._container: OutputContainer = av.open(str(path), "w")
        except (ValueError, OSError, av.FFmpegError) as error:
            raise SourceError(f"{path} cannot be written as a video: {error}") from error
        self._stream: VideoStream | None = None
        self._ticks = -1

    def write(self, time_s: float, pixels: UInt8Array) -> None:
        """Add an (h, w, 3) RGB frame."""
        stream = self._stream or self._begin(pixels)
        # Chroma is stored for two by two pixels, so both sides are made even.
        height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:height, :width]), format="rgb24")
        self._ticks = max(self._ticks + 1, round(time_s * _TICKS_PER_S))
        frame.pts, frame.time_base = self._ticks, Fraction(1, _TICKS_PER_S)
        self._container.mux(stream.encode(frame))

    def close(self) -> None:
        """Write what the encoder still holds and complete the file."""
        if self._stream:
            self._container.mux(self._stream.encode())
        self._container.close()

    def _begin(self, pixels: UInt8Array) -> VideoStream:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = self._container.add_stream(codec, rate=30)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _TICKS_PER_S)
        self._stream = stream
        return stream
