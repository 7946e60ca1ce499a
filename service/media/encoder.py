"""Writes annotated frames as a video. Needs the `[media]` extra."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream

from service.media.errors import SourceError
from service.vision.types import UInt8Array

# The finest clock that every container of this kind keeps.
_TICKS_PER_S = 90_000
# An MP4 counts how long a picture is shown in 31 bits, which are 6.6 hours.
_LONGEST_SHOWN = 3600 * _TICKS_PER_S


class VideoWriter:
    """A video in which each frame is shown at its own time, until the next one: each hour anew.

    The picture's size is the first frame's; the codec is H.264 where it can be written, else MPEG-4.
    end_s: until when the last frame is shown, to be set before the end.
    """

    def __init__(self, path: Path) -> None:
        """Raises SourceError where the suffix is of no format for such a video, or the folder is missing."""
        self._path, self._ticks, self.end_s = path, -1, 0.0
        self._shown: UInt8Array | None = None
        if not path.parent.is_dir():
            raise SourceError(f"{path} cannot be written as a video: there is no folder {path.parent}")
        with self._told():
            # Absolute: what stands before a colon, as in `20:15.mp4`, would be a protocol to FFmpeg.
            self._container: OutputContainer = av.open(str(path.absolute()), "w")
            self._stream = _stream(self._container)

    def write(self, time_s: float, pixels: UInt8Array) -> None:
        """Add an (h, w, 3) RGB frame. Raises SourceError where an earlier one cannot be written."""
        ticks = max(self._ticks + 1, round(time_s * _TICKS_PER_S))
        self._show(ticks)
        self._ticks, self._shown = ticks, _even(pixels)

    def close(self) -> None:
        """Write what is still held and complete the file. Raises SourceError where that fails."""
        with self._told(), closing(self._container):
            if self._shown is not None:
                end = max(self._ticks + 1, round(self.end_s * _TICKS_PER_S))
                self._show(min(end, self._ticks + _LONGEST_SHOWN))
                self._container.mux(self._stream.encode())

    def _show(self, until: int) -> None:
        """Encode the frame that came last, now that it is known how long it is shown."""
        if self._shown is None:
            return
        if not self._stream.codec_context.is_open:
            self._stream.height, self._stream.width = self._shown.shape[:2]
        for ticks in range(self._ticks, until, _LONGEST_SHOWN):
            picture = VideoFrame.from_ndarray(self._shown, format="rgb24")
            frame = picture.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
            frame.pts, frame.time_base = ticks, Fraction(1, _TICKS_PER_S)
            frame.duration = min(_LONGEST_SHOWN, until - ticks)
            with self._told():
                self._container.mux(self._stream.encode(frame))

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
    # Pictures that are sent out of order would be shown later than they should be, in formats whose times
    # cannot be less than 0, and the last ones perhaps never.
    stream.codec_context.max_b_frames = 0
    # As is usual now; what does not say which it is, players guess by its size.
    stream.codec_context.colorspace = Colorspace.ITU709
    stream.codec_context.flags |= Flags.frame_duration
    return stream


def _even(pixels: UInt8Array) -> UInt8Array:
    # Chroma is stored for two by two pixels. An odd row or column at the end goes, an only one is doubled.
    for axis in (0, 1):
        if pixels.shape[axis] == 1:
            pixels = np.repeat(pixels, 2, axis)
    height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
    return np.ascontiguousarray(pixels[:height, :width])
