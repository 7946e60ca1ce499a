"""The figures: shares, bands, windows, moments, cues and times."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.media.audience import Segment, Tally, Window, Windows, moments, wilson
from service.media.cues import read_cues
from service.media.durations import clock, parse_duration, parse_timecode
from service.media.errors import SourceError
from service.media.timeline import draw_timeline
from service.vision.types import EMOTIONS

HAPPY = tuple(float(name == "happy") for name in EMOTIONS)
SAD = tuple(float(name == "sad") for name in EMOTIONS)


def test_wilson_gives_the_published_intervals() -> None:
    low, high = wilson(np.array([0.5, 0.0, 0.9]), 10)
    assert low == pytest.approx([0.2366, 0.0, 0.5958], abs=1e-4)
    assert high == pytest.approx([0.7634, 0.2775, 0.9821], abs=1e-4)


def test_shares_are_means_over_faces_and_bands_count_each_face_once() -> None:
    tally = Tally()
    for _ in range(100):
        tally.add([(1, HAPPY), (2, HAPPY), (3, SAD), (4, HAPPY)])
    shares = tally.shares()
    assert shares is not None
    happy = EMOTIONS.index("happy")
    assert shares.share[happy] == pytest.approx(0.75)
    assert shares.share.sum() == pytest.approx(1)
    # A hundred frames of four people are four people.
    assert tally.effective_faces == pytest.approx(4)
    low, high = wilson(np.array([0.75]), 4)
    assert (shares.low[happy], shares.high[happy]) == (pytest.approx(low[0]), pytest.approx(high[0]))
    assert (tally.frames, tally.seen, tally.most, tally.faces_mean) == (100, 100, 4, 4)


def test_a_face_that_is_seen_briefly_counts_for_less_than_one() -> None:
    tally = Tally()
    tally.add([(1, HAPPY), (2, SAD)])
    for _ in range(9):
        tally.add([(1, HAPPY)])
    assert 1 < tally.effective_faces < 1.5
    assert tally.different_faces == 2


def test_no_face_has_no_shares() -> None:
    tally = Tally()
    tally.add([])
    assert tally.shares() is None
    assert (tally.frames, tally.seen, tally.most, tally.faces_mean, tally.effective_faces) == (1, 0, 0, 0, 0)
    assert Segment("x", 0, None, tally).as_json(1)["dominant_emotion"] is None


def windows(*faces: tuple[tuple[float, ...], ...]) -> list[Window]:
    cut = Windows(1.0)
    for second, present in enumerate(faces):
        for part in (0.0, 0.5):
            cut.add(second + part, [(number, values) for number, values in enumerate(present)])
    return cut.all()


def test_windows_lie_on_the_grid_and_skip_what_was_not_seen() -> None:
    cut = Windows(0.5)
    for time in (0.0, 0.2, 0.4, 0.6, 2.6):
        cut.add(time, [(1, HAPPY)])
    assert [(one.start_s, one.end_s, one.frames) for one in cut.all()] == [
        (0, 0.5, 3),
        (0.5, 1, 1),
        (2.5, 3, 1),
    ]
    late = Windows(0.5)
    late.add(1.2, [])
    assert [one.start_s for one in late.all()] == [1]


def test_the_moment_of_change_is_where_the_shares_change() -> None:
    found = moments(windows(*[(HAPPY, HAPPY)] * 6, *[(SAD, HAPPY)] * 6, *[(SAD, SAD)] * 6))
    assert [one.time_s for one in found] == [6.0, 12.0]
    assert [one.change for one in found] == pytest.approx([0.5, 0.5])
    assert {(one.up, one.down) for one in found} == {("sad", "happy")}


def test_moments_compare_three_windows_with_three_and_five_are_told() -> None:
    found = moments(windows(*[*[(HAPPY,)] * 3, *[(SAD,)] * 3] * 4))
    assert [(one.time_s, one.change) for one in found] == [(3, 1), (6, 1), (9, 1), (12, 1), (15, 1)]
    assert [one.time_s for one in moments(windows((HAPPY,), (SAD,), (SAD,)))] == [1]


def test_an_even_programme_and_faces_that_come_and_leave_are_no_change() -> None:
    assert moments(windows(*[()] * 5, *[(HAPPY,)] * 5, *[()] * 5)) == []
    assert moments([]) == []


def test_faces_that_come_and_go_add_nothing_to_draw_but_steps(tmp_path: Path) -> None:
    """A piece of the picture for each of their visits would take an hour for a film."""
    there, gone = (HAPPY,), ()
    pieces = []
    for name, seen in (("all", [there] * 12), ("some", [there, gone] * 6)):
        draw_timeline(tmp_path / f"{name}.svg", name, windows(*seen), [], {})
        picture = (tmp_path / f"{name}.svg").read_text()
        pieces.append([picture.count(f'<g id="{kind}') for kind in ("line2d", "FillBetweenPolyCollection")])
    assert pieces[0] == pieces[1]
    assert min(pieces[0]) > 0


def test_a_title_in_letters_that_the_font_lacks_is_no_warning(tmp_path: Path) -> None:
    draw_timeline(tmp_path / "t.png", "\u8868", windows((HAPPY,)), [], {})


def test_no_faces_are_drawn_where_a_recording_has_a_gap(tmp_path: Path) -> None:
    seen = windows(*[(HAPPY,)] * 100)
    shaded = []
    for name, shown in (("whole", seen), ("gap", [*seen[:10], *seen[90:]])):
        draw_timeline(tmp_path / f"{name}.png", name, shown, [], {})
        with Image.open(tmp_path / f"{name}.png") as picture:
            lowest = np.asarray(picture.convert("L"))[int(picture.height * 0.88) :]
        shaded.append(int(((lowest > 180) & (lowest < 210)).sum()))
    assert shaded[0] > 10_000
    assert shaded[1] < 0.3 * shaded[0]


def test_cues_with_and_without_ends(tmp_path: Path) -> None:
    path = tmp_path / "cues.csv"
    path.write_text("label,start,end\nopening,0,\nsong,0:05.5,0:07\nend,1:00:00,\n")
    cues = read_cues(path)
    assert [(one.label, one.start_s, one.end_s) for one in cues] == [
        ("opening", 0, 5.5), ("song", 5.5, 7), ("end", 3600, None)
    ]  # fmt: skip
    assert [one.covers(5.5) for one in cues] == [False, True, False]


@pytest.mark.parametrize(
    "text", ["start;end;label\n0,5;1:30;one, two\n", 'start, end, label\n0.5, 90, "one, two"\n']
)
def test_cues_as_spreadsheets_and_hands_write_them(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cues.csv"
    path.write_text(text.replace("\n", "\r\n"), "utf-8-sig", newline="")
    (cue,) = read_cues(path)
    assert (cue.label, cue.start_s, cue.end_s) == ("one, two", 0.5, 90)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no lines"),
        ("start,label\n", "no lines"),
        ("begin,label\n1,a\n", "columns start and label"),
        ("start,label\nsoon,a\n", "line 2"),
        ("start,end,label\n5,4,a\n", "line 2: it ends before it starts"),
        ("start,label\n60,a\n0,b\n", "line 2: it has no end, and the next line starts no later"),
        ("start,label\n0,a\n5,b\n5,c\n", "line 3: it has no end"),
        ("start,label\n\n\n0,a\nx,b\n", "line 5: "),
        ('start,label\n0,"two\nlines"\nx,b\n', "line 4: "),
    ],
)
def test_bad_cues_are_told_with_their_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "cues.csv"
    path.write_text(text)
    with pytest.raises(SourceError, match=told):
        read_cues(path)


def test_times_as_people_write_them() -> None:
    texts = ("0.2s", "200ms", "0.2", "2min", "2m", "1h")
    assert [parse_duration(text) for text in texts] == [0.2, 0.2, 0.2, 120, 120, 3600]
    assert [parse_timecode(text) for text in ("83.5", "1:23.5", "0:01:23,5")] == [83.5, 83.5, 83.5]
    assert parse_timecode("33:59.822") == 2039.822
    assert [clock(seconds) for seconds in (0, 83.4, 3723)] == ["0:00", "1:23", "1:02:03"]
    for text in ("", "s", "-1s", "1 frame"):
        with pytest.raises(ValueError, match="no duration"):
            parse_duration(text)
    for text in ("", "-1", "1:2:3:4", "nan"):
        with pytest.raises(ValueError, match=r"no time|could not convert"):
            parse_timecode(text)


def test_a_segment_after_the_end_does_not_end_before_it_starts() -> None:
    figures = Segment("x", 500, None).as_json(5)
    assert (figures["start_s"], figures["end_s"], figures["frames"]) == (500, 500, 0)
