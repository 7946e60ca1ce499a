"""Faces from frame to frame: less searching, the same id for the same face, labels that do not flicker.

Values in, values out: `Tracker.track` takes what the frame before left and returns what the next one needs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from service.vision.pipeline import AnalysisOptions, EmotionPipeline
from service.vision.types import EMOTIONS, Analysis, AnalyzedFace, DecodedImage, Face, Region

# Two boxes are not the same face where one is more than this many times as large as the other.
_MOST_GROWTH = 2.0
# How much farther away, in sides, a lost face counts. Two that are both found are seldom as near.
_LAG_OF_LOST = 0.25


@dataclass(frozen=True, slots=True)
class TrackingParameters:
    """All times in seconds.

    search_every: time between full searches while every known face is followed; zero searches each frame.
    memory: how long a face that is lost keeps its id.
    smoothing: time in which the weight of an observation falls to 1/e.
    margin: lead in smoothed probability that another emotion needs to become the label.
    reach: how far a face's centre may move between two sightings, in units of its side.
    """

    search_every: float = 0.25
    memory: float = 1.0
    smoothing: float = 0.4
    margin: float = 0.1
    reach: float = 0.7


@dataclass(frozen=True, slots=True)
class Track:
    """What is remembered of one face.

    region: where it was last found; seen: when that was; probabilities: smoothed, in EMOTIONS order.
    """

    id: int
    region: Region
    seen: float
    probabilities: tuple[float, ...]
    dominant_emotion: str


@dataclass(frozen=True, slots=True)
class TrackedFace:
    """A face of this frame and who it is.

    analyzed: this frame alone; probabilities: smoothed over the frames before, summing to 1;
    dominant_emotion: the label; its smoothed probability is within the margin of the largest.
    uncertain: the largest smoothed probability is one at which answers are wrong more often than right.
    """

    id: int
    analyzed: AnalyzedFace
    probabilities: tuple[float, ...]
    dominant_emotion: str
    uncertain: bool


@dataclass(frozen=True, slots=True)
class Memory:
    """What the frames so far leave for the next one.

    size: width and height of the frames; tracks: the faces of the last frame and those lost not long before;
    following: the last frame's faces; next_id: given to no face yet; searched: when the last full
    search was made.
    """

    size: tuple[int, int] = (0, 0)
    tracks: tuple[Track, ...] = ()
    following: tuple[Face, ...] = ()
    next_id: int = 1
    searched: float = -math.inf


@dataclass(frozen=True, slots=True)
class Tracked:
    """One frame's faces, largest first, and what the next frame needs.

    full: the whole frame was searched, not only where the last faces were.
    """

    analysis: Analysis
    faces: tuple[TrackedFace, ...]
    memory: Memory
    full: bool


@dataclass(frozen=True, slots=True)
class Tracker:
    """Analyzes the frames of a video or camera. It keeps nothing between calls, so one may serve many."""

    pipeline: EmotionPipeline
    options: AnalysisOptions = field(default_factory=AnalysisOptions)
    parameters: TrackingParameters = field(default_factory=TrackingParameters)

    def track_encoded(self, data: bytes, previous: Memory, seconds: float) -> Tracked:
        """Decode a frame and track it. Raises what `EmotionPipeline.analyze` raises."""
        start = perf_counter()
        image = self.pipeline.decode(data, self.options)
        return self.track(image, previous, seconds, decode_ms=(perf_counter() - start) * 1000)

    def track(self, image: DecodedImage, previous: Memory, seconds: float, decode_ms: float = 0.0) -> Tracked:
        """Analyze a frame: known faces are followed, and new ones found by the next full search.

        previous: `memory` of the frame before, `Memory()` for the first; seconds: when the frame was taken,
        on any clock that does not run backwards. A change of the frames' size ends all tracks.
        """
        if previous.size != (image.width, image.height):
            previous = Memory((image.width, image.height), next_id=previous.next_id)
        start = perf_counter()
        faces, full = self._find(image, previous, seconds)
        detect_ms = (perf_counter() - start) * 1000
        analysis = self.pipeline.describe(image, faces, self.options, decode_ms, detect_ms)
        searched = seconds if full else previous.searched
        tracks, memory = remember(analysis, previous, seconds, searched, self.parameters)
        least = self.pipeline.classifier(self.options.model).uncertain_below
        pairs = zip(analysis.faces, tracks, strict=True)
        return Tracked(analysis, tuple(_tracked(*pair, least) for pair in pairs), memory, full)

    def _find(self, image: DecodedImage, previous: Memory, seconds: float) -> tuple[tuple[Face, ...], bool]:
        """The faces, and whether the whole image was searched for them."""
        if previous.following and seconds - previous.searched < self.parameters.search_every:
            followed = self.pipeline.follow(image, previous.following, self.options)
            if len(followed) == len(previous.following):
                return followed, False
        return self.pipeline.detect(image, self.options), True


def remember(
    analysis: Analysis, previous: Memory, seconds: float, searched: float, parameters: TrackingParameters
) -> tuple[tuple[Track, ...], Memory]:
    """The track of each face of the frame, in their order, and the memory for the next frame."""
    known = [track for track in previous.tracks if seconds - track.seen <= parameters.memory]
    faces = tuple(analyzed.face for analyzed in analysis.faces)
    same = recognize(known, [face.region for face in faces], parameters.reach)
    tracks, next_id = [], previous.next_id
    for index, analyzed in enumerate(analysis.faces):
        if index in same:
            tracks.append(_continue(known[same[index]], analyzed, seconds, parameters))
        else:
            tracks.append(_begin(next_id, analyzed, seconds))
            next_id += 1
    here = set(same.values())
    lost = [track for index, track in enumerate(known) if index not in here]
    memory = Memory((analysis.width, analysis.height), (*tracks, *lost), faces, next_id, searched)
    return tuple(tracks), memory


def recognize(known: Sequence[Track], found: Sequence[Region], reach: float) -> dict[int, int]:
    """Index in found -> index in known of the same face. Who was seen last has a start on who was lost.

    Else a face that passes in front of another one would change places with it: on its way it comes nearer to
    where that one was lost than to where it was itself a frame before. With more of a start, of two heads
    that overlap and are found now and then, the one would get the other's id.
    """
    last = max((track.seen for track in known), default=-math.inf)
    lags = [_LAG_OF_LOST if track.seen < last else 0.0 for track in known]
    return match([track.region for track in known], found, reach, lags)


def match(
    known: Sequence[Region], found: Sequence[Region], reach: float, lags: Sequence[float] = ()
) -> dict[int, int]:
    """Index in found -> index in known of the same face, the nearest pairs first, each face at most once.

    lags: of each in known, how much farther away it counts when others are as near.
    """
    places = np.array(found, np.float64).reshape(-1, 4)
    near: list[tuple[float, int, int]] = []
    # A row of all pairs at a time: a crowd of thousands has millions.
    for old, (before, lag) in enumerate(zip(known, lags or [0.0] * len(known), strict=True)):
        distances = _distances(before, places)
        near += [
            (float(distances[new]) + lag, old, new) for new in np.flatnonzero(distances <= reach).tolist()
        ]
    same: dict[int, int] = {}
    taken: set[int] = set()
    for _, old, new in sorted(near):
        if new not in same and old not in taken:
            same[new] = old
            taken.add(old)
    return same


def smooth(
    before: Sequence[float], now: Sequence[float], elapsed: float, constant: float
) -> tuple[float, ...]:
    """Exponential smoothing that does not depend on the frame rate. elapsed, constant: seconds."""
    weight = -math.expm1(-max(elapsed, 0.0) / constant)
    return tuple(old + weight * (new - old) for old, new in zip(before, now, strict=True))


def steady(label: str, probabilities: Sequence[float], margin: float) -> str:
    """The label to show: the one shown before, unless another leads it by more than the margin."""
    best = max(range(len(EMOTIONS)), key=probabilities.__getitem__)
    leads = probabilities[best] - probabilities[EMOTIONS.index(label)] > margin
    return EMOTIONS[best] if leads else label


def _continue(track: Track, analyzed: AnalyzedFace, seconds: float, parameters: TrackingParameters) -> Track:
    probabilities = smooth(
        track.probabilities, analyzed.probabilities, seconds - track.seen, parameters.smoothing
    )
    label = steady(track.dominant_emotion, probabilities, parameters.margin)
    return Track(track.id, analyzed.face.region, seconds, probabilities, label)


def _begin(number: int, analyzed: AnalyzedFace, seconds: float) -> Track:
    return Track(number, analyzed.face.region, seconds, analyzed.probabilities, analyzed.dominant_emotion)


def _tracked(analyzed: AnalyzedFace, track: Track, least: float) -> TrackedFace:
    uncertain = max(track.probabilities) < least
    return TrackedFace(track.id, analyzed, track.probabilities, track.dominant_emotion, uncertain)


def _distances(before: Region, after: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) between a box's centre and those of others (N, 4), in units of their mean side.

    Infinite for boxes of too different a size.
    """
    x1, y1, x2, y2 = after.T
    sides = np.sqrt(np.maximum((x2 - x1) * (y2 - y1), 1.0))
    side = math.sqrt(max((before[2] - before[0]) * (before[3] - before[1]), 1.0))
    across, down = (before[0] + before[2] - x1 - x2) / 2, (before[1] + before[3] - y1 - y2) / 2
    distances = np.hypot(across, down) / ((side + sides) / 2)
    alike = np.maximum(sides, side) <= _MOST_GROWTH * np.minimum(sides, side)
    return np.where(alike, distances, math.inf)
