"""Ids, smoothing, steady labels, and following faces instead of searching."""

import io
import sys
from collections.abc import Sequence
from itertools import pairwise
from types import FrameType

import numpy as np
import pytest
from PIL import Image

from service.vision.pipeline import AnalysisOptions, EmotionPipeline
from service.vision.track import (
    Memory,
    Track,
    Tracked,
    Tracker,
    TrackingParameters,
    match,
    remember,
    smooth,
    steady,
)
from service.vision.types import (
    EMOTIONS,
    Analysis,
    AnalyzedFace,
    Box,
    DecodedImage,
    Face,
    Landmarks,
    Point,
    Region,
    Timings,
    UInt8Array,
)

HAPPY = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
SAD = (0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0)
PARAMETERS = TrackingParameters()


def region(x: float, y: float = 0, side: float = 100) -> Region:
    return (x, y, x + side, y + side)


def analysis(*faces: tuple[Region, tuple[float, ...]]) -> Analysis:
    """What a frame of 1000x1000 pixels with these faces would give."""
    point = Point(0, 0)
    marks = Landmarks(point, point, point, point, point)
    analyzed = (
        AnalyzedFace(Face(Box(0, 0, 1, 1), where, 0.99, marks), values, False, np.zeros((48, 48), np.uint8))
        for where, values in faces
    )
    return Analysis(1000, 1000, "png", 1, tuple(analyzed), "balanced", Timings(0, 0, 0, 0))


def follow(*frames: tuple[float, Sequence[Region]]) -> list[list[int]]:
    """The ids in each frame, given its time and where its faces are."""
    memory, ids = Memory((1000, 1000)), []
    for seconds, regions in frames:
        seen = analysis(*((where, HAPPY) for where in regions))
        tracks, memory = remember(seen, memory, seconds, seconds, PARAMETERS)
        ids.append([track.id for track in tracks])
        remembered = [track.id for track in memory.tracks]
        assert len(remembered) == len(set(remembered))
    return ids


def test_a_face_keeps_its_id_while_it_moves_and_order_does_not_matter() -> None:
    moving = [
        (0.0, [region(0), region(300)]),
        (0.1, [region(260), region(40)]),
        (0.2, [region(80), region(220)]),
    ]
    assert follow(*moving) == [[1, 2], [2, 1], [1, 2]]


def test_a_face_keeps_its_id_through_a_short_loss_and_gets_another_after_a_long_one() -> None:
    assert follow((0, [region(0)]), (0.5, []), (1.0, [region(20)])) == [[1], [], [1]]
    assert follow((0, [region(0)]), (0.5, []), (1.1, [region(20)])) == [[1], [], [2]]


def test_ids_are_never_used_again() -> None:
    assert follow((0, [region(0)]), (5, [region(0)]), (10, []), (20, [region(0)])) == [[1], [2], [], [3]]


@pytest.mark.parametrize("step", [12, 24])
def test_a_face_that_passes_in_front_of_another_one_does_not_take_its_id(step: int) -> None:
    """Who is behind is not seen while the other one covers it by half."""
    frames = []
    for index, x in enumerate(range(0, 600, step)):
        behind = [region(300)] if abs(x - 300) >= 50 else []
        frames.append((index / 25, [region(x, 5), *behind]))
    ids = follow(*frames)
    assert [len(seen) for seen in ids].count(1) > 60 // step
    assert {seen[0] for seen in ids} == {1}
    assert {seen[1] for seen in ids if len(seen) > 1} == {2}


@pytest.mark.parametrize("apart", [40, 65])
def test_two_heads_that_overlap_and_are_found_in_turns_keep_their_ids(apart: float) -> None:
    one, other = region(0), region(apart)
    in_turns = [(index / 25, [(one, other)[index % 2]]) for index in range(1, 9)]
    assert follow((0, [one, other]), *in_turns) == [[1, 2], *[[2], [1]] * 4]


@pytest.mark.parametrize("other", [region(75), region(0, 75), region(-100, -100, side=300), region(500, 500)])
def test_too_far_or_of_another_size_is_another_face(other: Region) -> None:
    assert match([region(0)], [other], 0.7) == match([other], [region(0)], 0.7) == {}


@pytest.mark.parametrize("other", [region(65), region(0, 65), region(-45, -45, side=190)])
def test_near_and_of_about_the_size_is_the_same_face(other: Region) -> None:
    assert match([region(0)], [other], 0.7) == match([other], [region(0)], 0.7) == {0: 0}


def test_the_nearest_pair_is_matched_first_and_each_face_once() -> None:
    assert match([region(0), region(50)], [region(45)], 0.7) == {0: 1}
    assert match([region(0)], [region(30), region(10)], 0.7) == {1: 0}
    assert match([], [region(0)], 0.7) == match([region(0)], [], 0.7) == {}


def test_a_crowd_is_not_compared_pair_by_pair() -> None:
    """What thousands of faces take between two runs of a graph is out of any deadline's sight."""
    crowd = [region(10 * x, 10 * y, side=10) for x in range(20) for y in range(20)]
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        same = match(crowd, crowd, 0.7)
    finally:
        sys.setprofile(None)
    assert same == {index: index for index in range(len(crowd))}
    assert calls < 20 * len(crowd)


def test_smoothing_does_not_depend_on_the_frame_rate() -> None:
    once = smooth(HAPPY, SAD, 0.4, 0.4)
    values: tuple[float, ...] = HAPPY
    for _ in range(40):
        values = smooth(values, SAD, 0.01, 0.4)
    assert values == pytest.approx(once)
    assert once[EMOTIONS.index("happy")] == pytest.approx(np.exp(-1))
    assert sum(once) == pytest.approx(1)
    assert smooth(HAPPY, SAD, 0.0, 0.4) == smooth(HAPPY, SAD, -1.0, 0.4) == HAPPY


def test_a_label_changes_only_for_a_clear_lead() -> None:
    near = (0, 0, 0, 0.46, 0.54, 0, 0)
    clear = (0, 0, 0, 0.44, 0.56, 0, 0)
    assert [steady("happy", values, 0.1) for values in (near, clear)] == ["happy", "sad"]
    assert steady("sad", near, 0.1) == "sad"


def test_labels_do_not_flicker_and_follow_a_lasting_change() -> None:
    memory, labels = Memory((1000, 1000)), []
    for index in range(60):
        now = SAD if index % 3 == 2 or index >= 30 else HAPPY
        (track,), memory = remember(analysis((region(0), now)), memory, index / 25, 0, PARAMETERS)
        labels.append(track.dominant_emotion)
    assert labels[:30] == ["happy"] * 30
    assert labels[-1] == "sad"
    assert sum(before != after for before, after in pairwise(labels)) == 1


def test_a_track_starts_with_what_was_seen() -> None:
    (track,), memory = remember(analysis((region(0), SAD)), Memory(), 3.0, 3.0, PARAMETERS)
    assert track == Track(1, region(0), 3.0, SAD, "sad")
    assert (memory.size, memory.tracks, memory.next_id, memory.searched) == ((1000, 1000), (track,), 2, 3.0)
    assert [face.region for face in memory.following] == [region(0)]


def image_of(pixels: UInt8Array) -> DecodedImage:
    return DecodedImage(pixels, pixels.shape[1], pixels.shape[0], "png", 1)


@pytest.fixture(scope="module")
def pixels(photo: bytes) -> UInt8Array:
    return np.asarray(Image.open(io.BytesIO(photo)).convert("RGB"), np.uint8)


def play(pipeline: EmotionPipeline, images: Sequence[UInt8Array], every: float = 0.04) -> list[Tracked]:
    tracker, memory, frames = Tracker(pipeline), Memory(), []
    for index, image in enumerate(images):
        frames.append(tracker.track(image_of(image), memory, index * every))
        memory = frames[-1].memory
    return frames


def test_tracked_equals_detected_on_still_frames(pipeline: EmotionPipeline, pixels: UInt8Array) -> None:
    frames = play(pipeline, [pixels] * 15)
    assert [frame.full for frame in frames].count(True) == 3
    (detected,) = pipeline.analyze_decoded(image_of(pixels), AnalysisOptions()).faces
    for frame in frames:
        (face,) = frame.faces
        assert face.id == 1
        assert face.analyzed.face.region == pytest.approx(detected.face.region, abs=0.01)
        assert face.analyzed.face.box == detected.face.box
        assert face.probabilities == pytest.approx(detected.probabilities, abs=1e-3)
        assert face.dominant_emotion == face.analyzed.dominant_emotion == detected.dominant_emotion


def test_a_face_is_followed_in_frames_decoded_at_a_reduced_scale(
    pipeline: EmotionPipeline, pixels: UInt8Array
) -> None:
    frame, options = DecodedImage(pixels, 1024, 1024, "jpeg", 1), AnalysisOptions()
    faces = detected = pipeline.detect(frame, options)
    for _ in range(3):
        faces = pipeline.follow(frame, faces, options)
        assert [face.box for face in faces] == [face.box for face in detected]
        for face, before in zip(faces, detected, strict=True):
            assert face.window == pytest.approx(before.window, abs=0.1)


def test_a_moving_face_is_followed(pipeline: EmotionPipeline, pixels: UInt8Array) -> None:
    frames = play(pipeline, [np.roll(pixels, 8 * index, axis=1) for index in range(6)])
    lefts = [frame.faces[0].analyzed.face.box.x for frame in frames]
    assert [frame.full for frame in frames] == [True] + [False] * 5
    assert np.diff(lefts) == pytest.approx(8, abs=6)
    assert {face.id for frame in frames for face in frame.faces} == {1}


def test_a_lost_face_is_searched_for_at_once(pipeline: EmotionPipeline, pixels: UInt8Array) -> None:
    moved = np.roll(pixels, 250, axis=1)
    frames = play(pipeline, [pixels, moved, np.zeros_like(pixels), moved])
    assert [frame.full for frame in frames] == [True, True, True, True]
    assert [[face.id for face in frame.faces] for frame in frames] == [[1], [2], [], [2]]


def test_a_new_face_is_found_by_the_next_full_search(pipeline: EmotionPipeline, pixels: UInt8Array) -> None:
    small = np.asarray(Image.fromarray(pixels).resize((340, 340)), np.uint8)
    alone = np.zeros((520, 900, 3), np.uint8)
    alone[:512, :512] = pixels
    both = alone.copy()
    both[100:440, 540:880] = small
    frames = play(pipeline, [alone, both, both, both], every=0.1)
    assert [frame.full for frame in frames] == [True, False, False, True]
    assert [[face.id for face in frame.faces] for frame in frames] == [[1], [1], [1], [1, 2]]


def test_frames_of_another_size_start_anew(pipeline: EmotionPipeline, pixels: UInt8Array) -> None:
    frames = play(pipeline, [pixels, pixels[:480], pixels])
    assert [frame.full for frame in frames] == [True] * 3
    assert [frame.faces[0].id for frame in frames] == [1, 2, 3]


def test_options_hold_while_following(pipeline: EmotionPipeline, pixels: UInt8Array) -> None:
    tracker = Tracker(pipeline, AnalysisOptions(min_confidence=1.0))
    first = tracker.track(image_of(pixels), Memory(), 0.0)
    assert (first.faces, first.memory.following, first.memory.next_id) == ((), (), 1)
    faces = pipeline.detect(image_of(pixels), AnalysisOptions())
    assert len(pipeline.follow(image_of(pixels), faces, AnalysisOptions())) == 1
    assert pipeline.follow(image_of(pixels), faces, tracker.options) == ()
