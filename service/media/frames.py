"""A video file or a camera -> upright RGB frames with their times. Needs the `[media]` extra."""

import math
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream

from service.media.aside import Aside
from service.media.errors import SourceError
from service.media.parallel import while_they_come
from service.vision.types import UInt8Array

_MICROSECONDS = 1_000_000
# Times come from whole ticks: a frame must not miss its turn by a rounding error.
_TOLERANCE_S = 1e-6
# A frame so much earlier than the one before is no frame out of order: the film's clock began anew.
_REWIND_S = 1.0
# A frame so far off, where one of the next few follows the one before, has a damaged time.
_ASTRAY_S = 10.0
_AHEAD = 4
# FFmpeg would take a clock that was set back for one that overflowed, and count on: by 26.5 hours in a .ts.
_CLOCK_AS_IT_IS = {"correct_ts_overflow": "0"}
# No film's pixels are longer than this; a file that says so is wrong, and would take all memory.
_LONGEST_PIXEL = 4
_COLORSPACE_UNTOLD = 2  # FFmpeg's number
# A frame, and how long each of its pixels is.
_Shaped = tuple[VideoFrame, Fraction]
# The display matrices of no, one, two and three quarter turns to the left.
_TURNS = ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. index: its number among all decoded; time_s: seconds from the start, to the microsecond."""

    index: int
    time_s: float
    pixels: UInt8Array


class Video:
    """A source of frames. decoded: frames so far; damaged: packets that did not decode.

    began: when a camera's first frame came, by this machine's clock; None for a film.
    """

    def __init__(self, container: InputContainer, live: bool, aside: Aside | None = None) -> None:
        """container: a film, or a device of libavdevice (live), which is the caller's to describe.

        aside: what to read with, which this closes at the end.
        """
        self.live, self.decoded, self.damaged = live, 0, 0
        self.began: datetime | None = None
        self._container, self._aside = container, aside or Aside()
        # As players do: in a file with a second view, the first one may not be the one to show.
        self._stream = max(_moving(container), key=lambda one: bool(one.disposition & Disposition.default))
        self._stream.thread_type = "AUTO"
        self._origin = None if live or container.start_time is None else container.start_time / _MICROSECONDS
        self._last, self._stamp, self._lasts_s = 0.0, -math.inf, 0.0
        self._first_ratio: Fraction | None = None

    @classmethod
    def open(cls, source: str) -> "Video":
        """Open a file, or a camera by its number or its /dev/video path. Raises SourceError."""
        device, aside = camera(source), Aside()
        try:
            container = aside(lambda: _opened(source, device))
        except (av.FFmpegError, ValueError, OSError) as error:
            aside.close()
            raise SourceError(f"{source} cannot be opened as a video: {_reason(error)}") from error
        if next(_moving(container), None) is None:
            aside.close()
            container.close()
            raise SourceError(f"{source} holds no video")
        return cls(container, live=device is not None, aside=aside)

    @property
    def duration_s(self) -> float | None:
        """How long the programme is, where the file says so."""
        if self.live or not self._container.duration:
            return None
        return self._container.duration / _MICROSECONDS

    @property
    def end_s(self) -> float:
        """When the last of the frames so far ends."""
        return self._last + self._lasts_s

    def frames(self, every_s: float) -> Iterator[Frame]:
        """Decode every frame, and give the first one at or after each multiple of every_s (0: all)."""
        due = -math.inf
        # A camera's frames are not waited for.
        for (frame, ratio), following in _and_next(self._decode(), 0 if self.live else _AHEAD):
            if self.live and not self.decoded:
                self.began = datetime.now(UTC)
            # Sums of ticks miss whole seconds by a hair, and would fall into the segment before.
            index, time = self.decoded, round(self._time(frame, following), 6)
            self.decoded += 1
            self._lasts_s = _duration(frame) or self._nominal_s
            if time + _TOLERANCE_S >= due:
                due = _next_due(time, every_s)
                yield Frame(index, time, _upright(frame, ratio))

    def __enter__(self) -> "Video":
        """Closes at the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._aside.close()
        if not self._aside.busy:
            self._container.close()

    def _decode(self) -> Iterator[_Shaped]:
        """All frames, those that the decoder still holds at the end included."""
        packets, ratio = self._container.demux(self._stream), None
        while (packet := self._next(packets)) is not None:
            try:
                for frame in packet.decode():
                    # The decoder may be ahead of its frames; what is of later ones begins with a key frame.
                    ratio = self._ratio() if frame.key_frame or ratio is None else ratio
                    yield frame, ratio
            except av.FFmpegError:
                self.damaged += 1

    def _next(self, packets: "Iterator[Packet[Any]]") -> "Packet[Any] | None":
        try:
            return self._aside(lambda: next(packets, None))
        except av.FFmpegError as error:
            raise SourceError(f"the video broke off after {self._last:.1f} s: {_reason(error)}") from error

    def _time(self, frame: VideoFrame, following: Sequence[float]) -> float:
        """From the frame's own timestamp; where it is missing or wrong, one nominal frame after the last."""
        stamp = _stamp(frame)
        if stamp is None or self._astray(stamp, following):
            self._last += self._nominal_s if self.decoded else 0.0
            return self._last
        if self._origin is None:
            self._origin = stamp
        if stamp < self._stamp - _REWIND_S:
            # As in recordings that were joined: time goes on.
            self._origin = stamp - self._last - self._nominal_s
        self._stamp = stamp
        self._last = max(self._last, stamp - self._origin)
        return self._last

    def _astray(self, stamp: float, following: Sequence[float]) -> bool:
        """Believed, one such time would move all that come after it by hours."""
        before = self._origin if self._stamp == -math.inf else self._stamp
        return (
            before is not None
            and abs(stamp - before) > _ASTRAY_S
            and any(0 <= after - before < _ASTRAY_S for after in following)
        )

    @property
    def _nominal_s(self) -> float:
        """How long a frame lasts at the rate that the file states."""
        return float(1 / (self._stream.guessed_rate or self._stream.average_rate or 25))

    def _ratio(self) -> Fraction:
        """How long a pixel is now: as the file says, until its pictures say otherwise than at first.

        Broadcasts change it from one programme to the next.
        """
        coded = self._stream.codec_context.sample_aspect_ratio or Fraction(1)
        self._first_ratio = self._first_ratio or coded
        ratio = coded if coded != self._first_ratio else self._stream.sample_aspect_ratio or Fraction(1)
        return ratio if 1 / _LONGEST_PIXEL <= ratio <= _LONGEST_PIXEL else Fraction(1)


def _opened(source: str, device: str | None) -> InputContainer:
    if device:
        return av.open(device, format="v4l2")
    return av.open(_place(source), options=_CLOCK_AS_IT_IS)


def _place(source: str) -> str:
    """For FFmpeg, which takes the 20 in `20:15.mp4` for a protocol, but not where a slash comes first."""
    # Not `os.path.abspath`, for which `link/..` is the folder that the link is in.
    return str(Path(source).absolute()) if os.path.exists(source) else source


def _moving(container: InputContainer) -> "Iterator[VideoStream]":
    """Its streams of pictures, without the cover of a piece of music or of a film."""
    return (one for one in container.streams.video if not one.disposition & Disposition.attached_pic)


def _stamp(frame: VideoFrame) -> float | None:
    """A frame's own time in seconds, by the clock of its file."""
    return None if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)


def _upright(frame: VideoFrame, ratio: Fraction) -> UInt8Array:
    width = max(1, round(frame.width * ratio))
    try:
        shown = frame.reformat(width=width, format="rgb24", src_colorspace=_colorspace(frame))
    except av.FFmpegError as error:
        kind = frame.format.name
        raise SourceError(f"{kind} pictures cannot be turned into RGB: {_reason(error)}") from error
    return oriented(np.asarray(shown.to_ndarray(), np.uint8), _display_matrix(frame))


def _colorspace(frame: VideoFrame) -> int | None:
    """For a frame that does not say: as players take it, by its size. None for what it says."""
    large = frame.width >= 1280 or frame.height > 576
    return Colorspace.ITU709 if large and frame.colorspace == _COLORSPACE_UNTOLD else None


def _duration(frame: VideoFrame) -> float:
    """How long a frame is shown, 0 where its file does not say."""
    return float(frame.duration * frame.time_base) if frame.time_base else 0.0


def _and_next(frames: Iterator[_Shaped], ahead: int) -> Iterator[tuple[_Shaped, list[float]]]:
    """Each frame with the times of so many after it, as far as there are any."""
    held: deque[_Shaped] = deque()
    broken: list[Exception] = []
    for frame in while_they_come(frames, broken):
        held.append(frame)
        if len(held) > ahead:
            yield held.popleft(), _stamps(held)
    while held:
        yield held.popleft(), _stamps(held)
    if broken:
        raise broken[0]


def _stamps(frames: Iterable[_Shaped]) -> list[float]:
    return [stamp for frame, _ in frames if (stamp := _stamp(frame)) is not None]


def camera(source: str) -> str | None:
    """The device that a source names, or None for a file. Raises SourceError where cameras cannot be read."""
    numbered = source.isdecimal() and not Path(source).exists()
    if not numbered and not source.startswith("/dev/video"):
        return None
    if sys.platform != "linux":
        raise SourceError("live cameras are read through Video4Linux, which only Linux has")
    return f"/dev/video{source}" if numbered else source


def oriented(pixels: UInt8Array, matrix: tuple[int, int, int, int]) -> UInt8Array:
    """Turn and mirror as a display matrix says.

    matrix: (a, b, c, d) in which a source pixel (p, q) is shown at x = a p + c q, y = b p + d q; turns
    that are no multiple of a quarter are taken for the nearest one.
    """
    a, b, c, d = matrix
    if abs(b) > abs(a):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    if a < 0:
        pixels = pixels[:, ::-1]
    if d < 0:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    try:
        entries: Any = frame.side_data
        data = bytes(entries[SideDataType.DISPLAYMATRIX])
        a, b, _, c, d = np.frombuffer(data, np.int32)[:5].tolist()
        return a, b, c, d
    except KeyError:
        return _TURNS[0]
    except ValueError:
        # Beside the matrix is something that the binding has no name for, such as the EXIF of a JPEG. What
        # it still tells is the turn, and not whether the picture is mirrored, which hardly any is.
        return _TURNS[round(frame.rotation / 90) % 4]


def _next_due(time: float, every_s: float) -> float:
    """The next point of the grid, not `time` plus a step: late frames must not delay the later ones."""
    if every_s <= 0:
        return -math.inf
    return (math.floor((time + _TOLERANCE_S) / every_s) + 1) * every_s


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
