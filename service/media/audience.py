"""How an audience's expressions are summed up over time: shares, their bands, and moments of change."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.vision.types import EMOTIONS

FloatArray = NDArray[np.float64]

_Z_95 = 1.959963984540054
# Windows on either side of a moment that are compared.
_SPAN = 3
_LEAST_CHANGE = 0.2
_MOST_MOMENTS = 5


@dataclass(frozen=True, slots=True)
class Shares:
    """Seven shares that sum to 1, each with its 95 % band, in EMOTIONS order."""

    share: FloatArray
    low: FloatArray
    high: FloatArray

    def as_json(self) -> dict[str, dict[str, float]]:
        """By emotion: share, low and high."""
        rows = zip(EMOTIONS, self.share.tolist(), self.low.tolist(), self.high.tolist(), strict=True)
        return {
            name: {"share": round(share, 6), "low": round(low, 6), "high": round(high, 6)}
            for name, share, low, high in rows
        }


@dataclass(slots=True)
class Tally:
    """Sums over frames. Memory grows with the number of different faces only.

    frames: all that were looked at; seen: those with a face; most: the most faces in one frame.
    """

    frames: int = 0
    seen: int = 0
    most: int = 0
    _total: FloatArray = field(default_factory=lambda: np.zeros(len(EMOTIONS)))
    _appearances: dict[int, int] = field(default_factory=dict)

    def add(self, faces: Sequence[tuple[int, Sequence[float]]]) -> None:
        """Count in one frame's faces, as (id, probabilities)."""
        self.frames += 1
        self.seen += bool(faces)
        self.most = max(self.most, len(faces))
        for face_id, probabilities in faces:
            self._total += probabilities
            self._appearances[face_id] = self._appearances.get(face_id, 0) + 1

    @property
    def faces_mean(self) -> float:
        """Faces in a frame, on average over all frames."""
        return sum(self._appearances.values()) / self.frames if self.frames else 0.0

    @property
    def different_faces(self) -> int:
        """How many ids appeared."""
        return len(self._appearances)

    @property
    def effective_faces(self) -> float:
        """Kish's effective number: as many equally long seen faces would tell as much."""
        seen = np.array(list(self._appearances.values()), float)
        return float(seen.sum() ** 2 / (seen**2).sum()) if len(seen) else 0.0

    def shares(self) -> Shares | None:
        """Mean probabilities over all faces of all frames; None where there was no face."""
        faces = sum(self._appearances.values())
        if not faces:
            return None
        share = self._total / faces
        return Shares(share, *wilson(share, self.effective_faces))


def wilson(share: FloatArray, n: float) -> tuple[FloatArray, FloatArray]:
    """Lower and upper limit of Wilson's 95 % score interval for shares among n independent faces."""
    squared = _Z_95**2
    centre = (share + squared / (2 * n)) / (1 + squared / n)
    inner = np.maximum(share * (1 - share), 0) / n + squared / (4 * n * n)
    half = _Z_95 * np.sqrt(inner) / (1 + squared / n)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


@dataclass(frozen=True, slots=True)
class Window:
    """One step of the timeline. start_s, end_s: seconds; shares: None while no face was visible."""

    start_s: float
    end_s: float
    frames: int
    faces_mean: float
    different_faces: int
    shares: Shares | None


class Windows:
    """Cuts a programme into windows of equal length and keeps one line of figures for each."""

    def __init__(self, length_s: float) -> None:
        self.length_s = length_s
        self._closed: list[Window] = []
        self._number, self._tally = 0, Tally()

    def number(self, time_s: float) -> int:
        """Of the window that a time lies in, from 0."""
        return math.floor(time_s / self.length_s + 1e-9)

    def add(self, time_s: float, faces: Sequence[tuple[int, Sequence[float]]]) -> None:
        """Count in a frame; times never go back."""
        number = self.number(time_s)
        if number != self._number:
            self._close()
            self._number = number
        self._tally.add(faces)

    def all(self) -> list[Window]:
        """The windows so far, the last one as far as it has come."""
        return [*self._closed, *([self._window()] if self._tally.frames else [])]

    def _close(self) -> None:
        if self._tally.frames:
            self._closed.append(self._window())
        self._tally = Tally()

    def _window(self) -> Window:
        start, tally = self._number * self.length_s, self._tally
        return Window(
            start,
            start + self.length_s,
            tally.frames,
            tally.faces_mean,
            tally.different_faces,
            tally.shares(),
        )


@dataclass(frozen=True, slots=True)
class Moment:
    """Where the shares changed most.

    change: half the summed differences of the shares, 0 (the same) to 1 (nothing in common). up, down: the
    emotions whose shares gained and lost most.
    """

    time_s: float
    change: float
    up: str
    down: str

    def as_json(self) -> dict[str, Any]:
        """Field by field."""
        return {
            "time_s": round(self.time_s, 3),
            "change": round(self.change, 6),
            "up": self.up,
            "down": self.down,
        }


def moments(windows: Sequence[Window]) -> list[Moment]:
    """The greatest changes, at most five, in the order of time; no two are nearer than three windows."""
    found: list[tuple[int, Moment]] = []
    for index, moment in sorted(_changes(windows), key=lambda one: -one[1].change):
        if all(abs(index - other) >= _SPAN for other, _ in found):
            found.append((index, moment))
        if len(found) == _MOST_MOMENTS:
            break
    return sorted((moment for _, moment in found), key=lambda moment: moment.time_s)


def _changes(windows: Sequence[Window]) -> Iterator[tuple[int, Moment]]:
    """What three windows show, weighted by their faces, against the three before."""
    for index in range(1, len(windows)):
        before = _pooled(windows[max(0, index - _SPAN) : index])
        after = _pooled(windows[index : index + _SPAN])
        if before is None or after is None:
            continue
        change = float(np.abs(after - before).sum() / 2)
        if change >= _LEAST_CHANGE:
            gained = after - before
            names = EMOTIONS[int(gained.argmax())], EMOTIONS[int(gained.argmin())]
            yield index, Moment(windows[index].start_s, change, *names)


def _pooled(windows: Sequence[Window]) -> FloatArray | None:
    parts = [(window.faces_mean * window.frames, window.shares.share) for window in windows if window.shares]
    if not parts:
        return None
    return np.average([share for _, share in parts], axis=0, weights=[weight for weight, _ in parts])


@dataclass(slots=True)
class Segment:
    """A stretch of a programme. end_s: None for as far as it goes."""

    label: str
    start_s: float
    end_s: float | None
    tally: Tally = field(default_factory=Tally)

    def covers(self, time_s: float) -> bool:
        """Whether a time lies in it; its end does not."""
        return self.start_s <= time_s and (self.end_s is None or time_s < self.end_s)

    def as_json(self, programme_end_s: float) -> dict[str, Any]:
        """The figures by which two segments, or two edits, can be compared."""
        tally = self.tally
        shares = tally.shares()
        # One that begins after the programme's end has no length.
        end = max(self.start_s, programme_end_s) if self.end_s is None else self.end_s
        return {
            "label": self.label,
            "start_s": round(self.start_s, 3),
            "end_s": round(end, 3),
            "frames": tally.frames,
            "frames_with_faces": tally.seen,
            "faces_mean": round(tally.faces_mean, 4),
            "faces_max": tally.most,
            "different_faces": tally.different_faces,
            "effective_faces": round(tally.effective_faces, 4),
            "dominant_emotion": EMOTIONS[int(shares.share.argmax())] if shares else None,
            "shares": shares.as_json() if shares else None,
        }
