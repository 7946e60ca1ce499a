"""One programme, film or live, from its first frame to its summary."""

import json
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from service.media.analyzers import Analyzer, Model
from service.media.audience import Moment, Segment, Window, Windows, moments
from service.media.errors import RefusedError
from service.media.frames import Frame, Video
from service.media.overwriting import draft_of
from service.media.parallel import in_order
from service.media.records import BOX_COLUMNS, EMOTION_COLUMNS, Columns, Row, box_fields
from service.vision.track import Memory, Track, TrackingParameters, remember
from service.vision.types import EMOTIONS, Analysis, AnalyzedFace, UInt8Array

FACE_COLUMNS: Columns = {
    "time_s": float,
    "frame": int,
    "face_id": int,
    **BOX_COLUMNS,
    "detection_confidence": float,
    **EMOTION_COLUMNS,
}
_THUMBNAIL_WIDTH = 240
_MOST_REFUSED = 10
# Between reports, in terms of the time that one takes.
_PAUSE = 20
# A step of no length could not be drawn.
_LEAST_S = 0.001


@dataclass(frozen=True, slots=True)
class Sighting:
    """A face in one frame, and the track it belongs to. uncertain: whether the smoothed answer is."""

    face: AnalyzedFace
    track: Track
    uncertain: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """One frame and who is in it."""

    frame: Frame
    sightings: tuple[Sighting, ...]
    model: str

    def rows(self) -> Iterator[Row]:
        """The rows of FACE_COLUMNS: what the model says of this frame alone, unsmoothed."""
        for sighting in self.sightings:
            face = sighting.face
            yield {
                "time_s": self.frame.time_s,
                "frame": self.frame.index,
                "face_id": sighting.track.id,
                **box_fields(face),
                "detection_confidence": face.face.confidence,
                "dominant_emotion": face.dominant_emotion,
                **dict(zip(EMOTIONS, face.probabilities, strict=True)),
                "uncertain": face.uncertain,
                "model": self.model,
            }

    def smoothed(self) -> tuple[AnalyzedFace, ...]:
        """The faces as they should be shown: a label that changed with every frame could not be read."""
        return tuple(
            AnalyzedFace(one.face.face, one.track.probabilities, one.uncertain, one.face.crop)
            for one in self.sightings
        )


def samples(
    video: Video, analyzer: Analyzer, every_s: float, workers: int, refused: Callable[[RefusedError], None]
) -> Generator[Sample, None, None]:
    """Analyze a frame each `every_s` seconds, several at once, and follow the faces from one to the next.

    refused: called for each frame that the server refuses, which is passed over unless it raises.
    """

    def analyze(frame: Frame) -> tuple[Frame, Analysis | RefusedError]:
        try:
            return frame, analyzer.frame(frame.pixels)
        except RefusedError as error:
            return frame, error

    memory, before_s = Memory(), 0.0
    with closing(in_order(analyze, video.frames(every_s), workers)) as analyzed:
        for frame, analysis in analyzed:
            if isinstance(analysis, RefusedError):
                refused(analysis)
                continue
            if memory.size != (analysis.width, analysis.height):
                memory = Memory((analysis.width, analysis.height), next_id=memory.next_id)
            # In a time-lapse, frames are farther apart than was asked for, and nobody is gone in between.
            apart_s, before_s = max(every_s, frame.time_s - before_s), frame.time_s
            parameters = TrackingParameters(memory=max(1.0, 2.5 * apart_s))
            tracks, memory = remember(analysis, memory, frame.time_s, frame.time_s, parameters)
            uncertain = [max(track.probabilities) < analyzer.model.uncertain_below for track in tracks]
            sightings = tuple(map(Sighting, analysis.faces, tracks, uncertain))
            yield Sample(frame, sightings, analyzer.model.name)


class Programme:
    """The running aggregate of a programme; its memory grows with windows and faces, not with frames.

    thumbnails: keep a small picture of each window's first frame, for the moments that turn out to matter.
    refused: frames that the server refused, and were passed over; refusal: why it refused the last one.
    end_s: how far it has come.
    """

    def __init__(
        self, name: str, every_s: float, window_s: float, segments: Sequence[Segment], thumbnails: bool
    ) -> None:
        self.name, self.every_s = name, every_s
        self.whole, self.segments = Segment(name, 0.0, None), list(segments)
        self.refused, self.refusal = 0, ""
        self._windows = Windows(window_s)
        self.end_s, self._refused_in_a_row = 0.0, 0
        self._pictures: dict[int, bytes] | None = {} if thumbnails else None

    def add(self, sample: Sample) -> None:
        """Count in a frame."""
        self._refused_in_a_row = 0
        time_s = sample.frame.time_s
        faces = [(one.track.id, one.face.probabilities) for one in sample.sightings]
        self._windows.add(time_s, faces)
        for segment in (self.whole, *self.segments):
            if segment.covers(time_s):
                segment.tally.add(faces)
        self.end_s = max(self.end_s, time_s + self.every_s)
        self._keep_picture(sample.frame)

    def refuse(self, error: RefusedError) -> None:
        """Count a frame that is passed over. Raises the error where it is hardly of that frame alone.

        So it is at the first one of all, and at the tenth in a row.
        """
        self.refused, self.refusal = self.refused + 1, str(error)
        self._refused_in_a_row += 1
        if not self.begun or self._refused_in_a_row == _MOST_REFUSED:
            raise error

    def ended(self, end_s: float, complete: bool) -> None:
        """No frame comes any more, and the last one was over then, not when the next one would be due.

        complete: all of them were looked at; otherwise some were decoded in advance.
        """
        self.end_s = end_s if complete else min(self.end_s, end_s)

    @property
    def windows(self) -> list[Window]:
        """The timeline so far; its last step ends where the programme does."""
        windows = self._windows.all()
        for last in windows[-1:]:
            end = max(self.end_s, last.start_s + _LEAST_S)
            windows[-1] = replace(last, end_s=min(last.end_s, end))
        return windows

    @property
    def begun(self) -> bool:
        """Whether there was a frame."""
        return self.whole.tally.frames > 0

    @property
    def moments(self) -> list[Moment]:
        """The moments of greatest change so far."""
        return moments(self.windows)

    def thumbnails(self) -> dict[float, UInt8Array]:
        """Pictures of the moments by their time; none unless they were asked for."""
        kept = self._pictures or {}
        times = {self._windows.number(moment.time_s): moment.time_s for moment in self.moments}
        return {time: _decoded(kept[number]) for number, time in times.items() if number in kept}

    def summary(self, video: Video, model: Model, complete: bool) -> dict[str, Any]:
        """All figures, as JSON has them."""
        return {
            "source": self.name,
            "complete": complete,
            "began": video.began.isoformat(timespec="milliseconds") if video.began else None,
            "every_s": self.every_s,
            "window_s": self._windows.length_s,
            "model": {"name": model.name, "version": model.version, "digest": model.digest},
            "frames_decoded": video.decoded,
            "packets_damaged": video.damaged,
            "frames_refused": self.refused,
            "programme": self.whole.as_json(self.end_s),
            "segments": [segment.as_json(self.end_s) for segment in self.segments],
            "moments": [moment.as_json() for moment in self.moments],
            "timeline": [_window_json(window) for window in self.windows],
        }

    def line(self) -> str:
        """The aggregate so far in one line, for a terminal."""
        figures = self.whole.as_json(self.end_s)
        shares = sorted((figures["shares"] or {}).items(), key=lambda item: -item[1]["share"])[:3]
        told = ", ".join(
            f"{name} {one['share']:.0%} ({one['low']:.0%} to {one['high']:.0%})" for name, one in shares
        )
        faces = f"{figures['faces_mean']:.1f} faces on average, {figures['different_faces']} in all"
        return f"{self.end_s:.1f} s: {faces}; {told or 'no face so far'}"

    def _keep_picture(self, frame: Frame) -> None:
        number = self._windows.number(frame.time_s)
        if self._pictures is not None and number not in self._pictures:
            self._pictures[number] = _encoded(frame.pixels)


class Reporter:
    """Calls back when so many seconds of programme have passed since the last time.

    Less often where that takes more than a twentieth of the time, as it does after hours of short windows: a
    camera's frames are lost meanwhile. clock: seconds.
    """

    def __init__(self, every_s: float, report: Callable[[], None], clock: Callable[[], float]) -> None:
        self._every_s, self._report, self._clock, self._due = every_s, report, clock, every_s

    def at(self, time_s: float) -> None:
        """The programme is at this time now."""
        if time_s >= self._due:
            began = self._clock()
            self._report()
            self._due = time_s + max(self._every_s, _PAUSE * (self._clock() - began))


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Put a document in the place of an older one in one step, so that a reader never sees half of it."""
    draft = draft_of(path)
    draft.write_text(json.dumps(document, indent=1) + "\n")
    os.replace(draft, path)


def _window_json(window: Window) -> dict[str, Any]:
    return {
        "start_s": round(window.start_s, 3),
        "end_s": round(window.end_s, 3),
        "frames": window.frames,
        "faces_mean": round(window.faces_mean, 4),
        "different_faces": window.different_faces,
        "shares": window.shares.as_json() if window.shares else None,
    }


def _encoded(pixels: UInt8Array) -> bytes:
    height, width = pixels.shape[:2]
    size = (_THUMBNAIL_WIDTH, max(1, round(height * _THUMBNAIL_WIDTH / width)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    return data.tobytes()


def _decoded(data: bytes) -> UInt8Array:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
