"""`fer-service video` on a film whose faces are counted."""

import csv
import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any, NoReturn

import av
import httpx
import numpy as np
import pytest
from PIL import Image

from service.media.analyzers import LocalAnalyzer, wire_face
from service.media.aside import Aside, Result
from service.media.errors import RefusedError, ServerError
from service.media.frames import Video
from service.media.interruption import Interruption
from service.media.outputs import Paths, frame_outputs
from service.media.overwriting import refuse_replacing
from service.media.programme import Reporter, samples
from service.media.terminal import told_in_one_line
from service.media.video import VideoRun, run_video
from service.vision.types import EMOTIONS, Analysis, Box, Landmarks, Point, Timings, UInt8Array
from tests.conftest import PHOTO, Serve
from tests.media import clip
from tests.media.conftest import Interrupted, Run

ROOT = Path(__file__).parents[2]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_frame_has_its_true_number_of_faces_and_one_identity(
    run: Run, film: Path, tmp_path: Path
) -> None:
    out = tmp_path / "faces.csv"
    result = run("video", film, "--every", "0s", "--out", out)
    assert result.exit_code == 0, result.stderr
    found = rows(out)
    counted = Counter(int(row["frame"]) for row in found)
    for index, (_, truth) in enumerate(clip.act()):
        if truth is not None:
            assert counted[index] == truth, index
    assert {row["face_id"] for row in found} == {"1"}
    for row in found:
        assert float(row["time_s"]) == pytest.approx(int(row["frame"]) / clip.FPS)
        probabilities = {name: float(row[name]) for name in EMOTIONS}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)
        assert row["dominant_emotion"] == max(probabilities, key=probabilities.__getitem__)
        assert row["uncertain"] in ("true", "false")
        assert row["model"] == "balanced"


def test_all_outputs_of_a_programme(run: Run, film: Path, tmp_path: Path) -> None:
    cues = tmp_path / "cues.csv"
    cues.write_text("start,end,label\n0,1.4,present\n2.4,,gone\n")
    timeline, summary, annotated = (tmp_path / name for name in ("t.png", "s.json", "a.mp4"))
    result = run(
        "video", film, "--window", "0.5s", "--timeline", timeline, "--summary", summary,
        "--annotate", annotated, "--segments", cues, "--out", tmp_path / "rows.parquet", "--thumbnails",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    with Image.open(timeline) as picture:
        assert picture.width > 1000
        assert len(set(picture.convert("RGB").resize((64, 64)).get_flattened_data())) > 20
    figures = json.loads(summary.read_text())
    assert figures["complete"] is True
    assert figures["began"] is None
    assert figures["frames_decoded"] == len(clip.act())
    whole, (present, gone) = figures["programme"], figures["segments"]
    assert (whole["frames"], whole["faces_max"], whole["different_faces"]) == (16, 1, 1)
    assert (present["frames"], present["frames_with_faces"], present["end_s"]) == (7, 7, 1.4)
    assert (gone["frames_with_faces"], gone["shares"], gone["end_s"]) == (0, None, 3.2)
    for share in present["shares"].values():
        assert 0 <= share["low"] <= share["share"] <= share["high"] <= 1
    assert sum(share["share"] for share in present["shares"].values()) == pytest.approx(1, abs=1e-4)
    assert [one["start_s"] for one in figures["timeline"]] == [0, 0.5, 1, 1.5, 2, 2.5, 3]
    assert figures["timeline"][-1]["end_s"] == whole["end_s"] == 3.2
    with av.open(str(annotated)) as film_made:
        frames = list(film_made.decode(video=0))
        assert film_made.duration == pytest.approx(3.2e6, abs=1e3)
    assert [frame.time for frame in frames] == pytest.approx([0.2 * i for i in range(16)], abs=1e-3)
    assert (frames[0].width, frames[0].height) == (clip.WIDTH, clip.HEIGHT)


def test_a_face_keeps_its_id_through_a_time_lapse(run: Run, tmp_path: Path) -> None:
    """Though its frames are farther apart than a face may be gone: else each would be another person."""
    pictures = [clip.frame(clip.Pose(100))] * 4
    path = clip.write(tmp_path / "lapse.mp4", pictures, [3.0 * i for i in range(4)])
    summary = tmp_path / "s.json"
    assert run("video", path, "--summary", summary).exit_code == 0
    whole = json.loads(summary.read_text())["programme"]
    assert (whole["frames_with_faces"], whole["different_faces"]) == (4, 1)


def test_a_phone_film_is_seen_upright(run: Run, tmp_path: Path) -> None:
    upright = clip.frame(clip.Pose(100))
    stored = upright.transpose(1, 0, 2)[::-1]  # a quarter turn to the left, undone by the flag
    path = clip.flag(clip.write(tmp_path / "phone.mp4", [stored] * 2), (0, 1, -1, 0))
    out = tmp_path / "rows.csv"
    assert run("video", path, "--out", out, "--every", "0s").exit_code == 0
    assert len(rows(out)) == 2
    assert 100 < int(rows(out)[0]["x"]) < 300


def test_a_server_gives_the_same_rows_and_figures(
    run: Run, client: httpx.Client, film: Path, tmp_path: Path
) -> None:
    made = []
    for name, where in (("here", []), ("there", ["--server", client.base_url])):
        out, summary = tmp_path / f"{name}.csv", tmp_path / f"{name}.json"
        result = run("video", film, "--out", out, "--summary", summary, *where)
        assert result.exit_code == 0, result.stderr
        made.append((out.read_text(), json.loads(summary.read_text())))
    assert made[0] == made[1]


def test_frames_that_are_too_large_for_a_server_are_sent_as_jpeg(
    run: Run, serve: Serve, film: Path, tmp_path: Path
) -> None:
    summary = tmp_path / "s.json"
    with serve(max_body_bytes=40_000) as client:  # a frame with the face has 70,000 as PNG, 25,000 as JPEG
        result = run("video", film, "--server", client.base_url, "--every", "1s", "--summary", summary)
    assert result.exit_code == 0, result.stderr
    figures = json.loads(summary.read_text())
    assert (figures["frames_refused"], figures["programme"]["frames"]) == (0, 4)
    assert figures["programme"]["faces_max"] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems know no such names")
def test_a_film_whose_name_is_not_utf_8_has_its_outputs(run: Run, film: Path, tmp_path: Path) -> None:
    named = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    named.symlink_to(film)
    timeline, summary = tmp_path / "t.png", tmp_path / "s.json"
    result = run("video", named, "--every", "2s", "--timeline", timeline, "--summary", summary)
    assert result.exit_code == 0, result.stderr
    assert timeline.exists()
    assert json.loads(summary.read_text())["source"] == r"caf\xe9.mp4"


def camera(film: Path) -> Video:
    """A device of libavdevice, as a camera is one, that shows a film."""
    return Video(av.open(f"movie={film}", format="lavfi"), live=True)


def watch(film: Path, analyzer: Any, paths: Paths, report_every_s: float = 0.6) -> tuple[bool, list[str]]:
    said: list[str] = []
    # By this clock telling takes no time, as it may on a busy machine.
    todo = VideoRun("camera", 0.2, 0.5, [], paths, False, 1, report_every_s, clock=lambda: 0.0)
    with camera(film) as video:
        return run_video(todo, video, analyzer, said.append), said


def test_a_camera_keeps_a_running_aggregate(film: Path, analyzer: LocalAnalyzer, tmp_path: Path) -> None:
    summary = tmp_path / "live.json"
    before = datetime.now(UTC)
    complete, said = watch(film, analyzer, Paths(summary=summary))
    assert complete
    began = datetime.fromisoformat(json.loads(summary.read_text())["began"])
    assert before - timedelta(milliseconds=1) <= began <= datetime.now(UTC)
    assert [line.split(" s:")[0] for line in said] == ["0.8", "1.4", "2.0", "2.6", "3.2", "3.2"]
    assert "1.0 faces on average, 1 in all; happy" in said[0]
    assert json.loads(summary.read_text())["programme"]["frames"] == 16


@pytest.mark.parametrize("by", [KeyboardInterrupt, ServerError])
def test_an_end_before_the_end_completes_what_was_seen(
    film: Path, analyzer: LocalAnalyzer, tmp_path: Path, by: type[BaseException]
) -> None:
    paths = Paths(*(tmp_path / name for name in ("r.csv", "t.png", "s.json", "a.mp4")))
    stopped = Interrupted(analyzer, at=6, by=by)
    if by is ServerError:
        with pytest.raises(ServerError, match="stopped here"):
            watch(film, stopped, paths, report_every_s=60)
    else:
        complete, said = watch(film, stopped, paths, report_every_s=60)
        assert not complete
        assert len(said) == 1
    assert paths.summary
    figures = json.loads(paths.summary.read_text())
    assert (figures["complete"], figures["programme"]["frames"]) == (False, 5)
    assert paths.rows
    assert len(rows(paths.rows)) == 5
    with av.open(str(paths.annotated)) as made:
        assert len(list(made.decode(video=0))) == 5
    assert paths.timeline
    assert paths.timeline.stat().st_size > 10_000


def test_an_interrupt_leaves_no_frame_in_some_outputs_only(
    film: Path, analyzer: LocalAnalyzer, tmp_path: Path
) -> None:
    paths, interruption, frames = Paths(tmp_path / "r.jsonl", summary=tmp_path / "s.json"), Interruption(), []

    @contextmanager
    def held() -> Iterator[None]:
        with interruption.held():
            frames.append(1)
            if len(frames) == 3:
                interruption.signalled(signal.SIGINT, None)
            yield

    todo = VideoRun("film", 0.2, 0.5, [], paths, False, 1, 60, held)
    with Video.open(str(film)) as video:
        assert not run_video(todo, video, analyzer, lambda _line: None)
    assert paths.rows
    assert paths.rows.read_text().count("\n") == 3
    assert paths.summary
    assert json.loads(paths.summary.read_text())["programme"]["frames"] == 3


@pytest.mark.parametrize("seen", [None, ServerError])
def test_an_interrupt_while_the_outputs_are_completed_cuts_none_of_them(
    film: Path, analyzer: LocalAnalyzer, tmp_path: Path, seen: type[BaseException] | None
) -> None:
    paths, interruption = Paths(summary=tmp_path / "s.json"), Interruption()
    todo = VideoRun("film", 0.2, 0.5, [], paths, False, 1, 60, interruption.held)

    def interrupted(_line: str) -> None:
        interruption.signalled(signal.SIGINT, None)

    stopped = Interrupted(analyzer, at=6 if seen else None, by=seen or KeyboardInterrupt)
    with Video.open(str(film)) as video, pytest.raises(seen or KeyboardInterrupt):
        run_video(todo, video, stopped, interrupted)
    assert paths.summary
    assert json.loads(paths.summary.read_text())["complete"] is (seen is None)


def test_the_second_interrupt_is_not_held_back() -> None:
    interruption, reached = Interruption(), list[str]()

    def interrupted_twice() -> None:
        with interruption.held():
            interruption.signalled(signal.SIGINT, None)
            reached.append("after the first")
            interruption.signalled(signal.SIGINT, None)
            reached.append("after the second")

    with pytest.raises(KeyboardInterrupt):
        interrupted_twice()
    assert reached == ["after the first"]


class Refusing(Interrupted):
    """A server that refuses these frames, by their number."""

    def __init__(self, inner: LocalAnalyzer, *frames: range) -> None:
        super().__init__(inner)
        self._refused = [number for numbers in frames for number in numbers]

    def frame(self, pixels: UInt8Array) -> Analysis:
        self.calls += 1
        if self.calls in self._refused:
            raise RefusedError(f"not number {self.calls}")
        return self._inner.frame(pixels)


def test_frames_that_a_server_refuses_are_passed_over_and_counted(
    film: Path, analyzer: LocalAnalyzer, tmp_path: Path
) -> None:
    paths = Paths(summary=tmp_path / "s.json")
    refusing = Refusing(analyzer, range(2, 11), range(12, 15))
    complete, said = watch(film, refusing, paths, report_every_s=60)
    assert complete
    assert said[-1] == "12 frame(s) were refused and passed over: not number 14"
    assert paths.summary
    figures = json.loads(paths.summary.read_text())
    assert (figures["complete"], figures["frames_refused"]) == (True, 12)
    assert (figures["frames_decoded"], figures["programme"]["frames"]) == (32, 4)


@pytest.mark.parametrize("numbers", [range(1, 2), range(3, 13)])
def test_a_server_that_refuses_the_film_ends_it(
    film: Path, analyzer: LocalAnalyzer, tmp_path: Path, numbers: range
) -> None:
    paths = Paths(summary=tmp_path / "s.json")
    assert paths.summary
    with pytest.raises(RefusedError, match=f"not number {numbers[-1]}"):
        watch(film, Refusing(analyzer, numbers), paths, report_every_s=60)
    assert paths.summary.exists() == (numbers[0] > 1)


def test_what_is_made_aside_ends_as_it_would_here() -> None:
    aside = Aside()
    with closing(aside), pytest.raises(SystemExit):
        aside(sys.exit)
    with pytest.raises(ValueError, match="closed"):
        aside(list)


def test_a_film_that_nobody_closes_leaves_no_thread(film: Path) -> None:
    before = set(threading.enumerate())
    video = Video.open(str(film))
    assert next(video.frames(0)).index == 0
    (reading,) = set(threading.enumerate()) - before
    del video
    reading.join(timeout=60)
    assert not reading.is_alive()


class Stalling(Aside):
    """Reads a film up to its thirtieth packet, which never comes: somebody presses Ctrl-C."""

    calls, goes_on = 0, Event()

    def __call__(self, call: Callable[[], Result]) -> Result:
        self.calls += 1
        return super().__call__(call if self.calls < 30 else self._stall)

    def _stall(self) -> NoReturn:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        self.goes_on.wait()
        raise ServerError("nobody waits for this")


@pytest.mark.skipif(sys.platform == "win32", reason="a signal cannot be sent to one of its threads")
def test_a_source_that_stalls_can_be_interrupted(film: Path, analyzer: LocalAnalyzer, tmp_path: Path) -> None:
    paths, aside = Paths(tmp_path / "r.csv", summary=tmp_path / "s.json"), Stalling()
    todo = VideoRun("film", 0.0, 0.5, [], paths, False, 1, 60)
    # Its own handler: where tests run in the background, the shell has the signal ignored.
    with told_in_one_line(), Video(av.open(str(film)), live=False, aside=aside) as video:
        assert not run_video(todo, video, analyzer, lambda _line: None)
    assert aside.busy
    aside.goes_on.set()
    assert paths.summary
    assert json.loads(paths.summary.read_text())["programme"]["frames"] > 0
    assert paths.rows
    assert rows(paths.rows)


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such locks")
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_second_run_leaves_the_rows_of_the_first_alone(
    run: Run, film: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"rows.{suffix}"
    out.write_text("old")
    with frame_outputs(Paths(out)):
        before = out.read_bytes()
        assert before != b"old"
        refused = run("video", film, "--out", out)
        assert refused.exit_code == 2
        assert f"{out} is being written to by another run" in refused.stderr
        assert out.read_bytes() == before
    assert run("video", film, "--out", out).exit_code == 0


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such files")
def test_rows_that_cannot_be_written_cost_no_other_output(
    film: Path, analyzer: LocalAnalyzer, tmp_path: Path
) -> None:
    paths = Paths(rows=tmp_path / "r.csv", summary=tmp_path / "s.json")
    assert paths.rows
    assert paths.summary
    os.mkfifo(paths.rows)
    reader = os.open(paths.rows, os.O_RDONLY | os.O_NONBLOCK)

    class Leaving(Interrupted):
        def frame(self, pixels: UInt8Array) -> Analysis:
            if self.calls == 5:
                os.close(reader)
            return super().frame(pixels)

    with pytest.raises(OSError, match="Broken pipe"):
        watch(film, Leaving(analyzer), paths, report_every_s=60)
    figures = json.loads(paths.summary.read_text())
    assert not figures["complete"]
    assert figures["programme"]["frames"] >= 3


def test_reports_that_take_long_come_seldom() -> None:
    now, told = [0.0], list[float]()

    def report() -> None:
        told.append(time_s)
        now[0] += 0.5 if len(told) == 2 else 0.001

    reporter = Reporter(2, report, lambda: now[0])
    for time_s in range(20):
        reporter.at(time_s)
    assert told == [2, 4, 14, 16, 18]


class Mood(Interrupted):
    """Sees one face in each frame: happy in a dark picture, sad in another one."""

    def frame(self, pixels: UInt8Array) -> Analysis:
        mood = "happy" if pixels.mean() < 60 else "sad"
        marks = Landmarks(*[Point(40, 30)] * 5)
        face = wire_face(Box(20, 10, 40, 40), 0.9, marks, [float(name == mood) for name in EMOTIONS], False)
        return Analysis(96, 64, "png", 1, (face,), "m", Timings(0, 0, 0, 0))


def test_a_thumbnail_is_the_first_frame_of_the_step_in_which_much_changes(
    analyzer: LocalAnalyzer, tmp_path: Path
) -> None:
    dark, first, other = ((20, 20, 20), (120, 200, 0), (0, 120, 255))
    colors = [*[dark] * 6, first, *[other] * 5]
    pictures = [np.full((64, 96, 3), color, np.uint8) for color in colors]
    film = clip.write(tmp_path / "film.mp4", pictures, [i / 2 for i in range(12)])
    shown = []
    for thumbnails in (False, True):
        paths = Paths(timeline=tmp_path / "t.png", summary=tmp_path / "s.json")
        todo = VideoRun("film", 0.0, 1.0, [], paths, thumbnails, 1, 60)
        with Video.open(str(film)) as video:
            assert run_video(todo, video, Mood(analyzer), lambda _line: None)
        with Image.open(tmp_path / "t.png") as picture:
            pixels = np.asarray(picture.convert("RGB"), int)
        shown.append([int((abs(pixels - color).max(axis=2) < 12).sum()) for color in (first, other)])
    assert shown[0] == [0, 0]
    assert shown[1][0] > 5_000
    assert shown[1][1] == 0
    figures = json.loads((tmp_path / "s.json").read_text())
    assert figures["moments"] == [{"time_s": 3, "change": 1, "up": "sad", "down": "happy"}]


def test_the_label_that_is_shown_is_doubted_not_the_frame_alone(film: Path, analyzer: LocalAnalyzer) -> None:
    analyzer.model = replace(analyzer.model, uncertain_below=1.0)
    refused: list[RefusedError] = []
    with Video.open(str(film)) as video, closing(samples(video, analyzer, 0.2, 1, refused.append)) as found:
        first = next(found)
    assert [face.face.uncertain for face in first.sightings] == [False]
    assert [face.uncertain for face in first.smoothed()] == [True]


@pytest.fixture
def _folder_with_a_film(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("film.mp4").write_bytes(film.read_bytes())
    Path("link.mp4").hardlink_to("film.mp4")
    Path("cues.csv").write_text("start,label\n0,first\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["film.mp4", "--annotate", "film.mp4"], "--annotate: film.mp4 is read in this run"),
        (["film.mp4", "--annotate", "link.mp4"], "--annotate: link.mp4 is read in this run"),
        (["film.mp4", "--segments", "cues.csv", "--out", "cues.csv"], "--out: cues.csv is read in this run"),
        (["film.mp4", "--out", "a.csv", "--summary", "a.csv"], "--out and --summary are both a.csv"),
        (["film.mp4", "--summary", "."], "--summary: . is a folder"),
    ],
)
@pytest.mark.usefixtures("_folder_with_a_film")
def test_no_output_takes_the_place_of_anything_else(run: Run, arguments: list[str], told: str) -> None:
    before = {path: path.read_bytes() for path in Path().iterdir()}
    result = run("video", *arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--every", "often"], "--every: 'often' is no duration"),
        (["--window", "0s"], "--window: it must be at least"),
        (["--out", "rows.txt"], "rows are written as .csv, .jsonl or .parquet"),
        (["--annotate", "film.webm"], "film.webm cannot be written as a video"),
        (["--timeline", "t.doc"], "a timeline is written as"),
        (["--segments", "missing.csv"], "missing.csv cannot be read"),
        (["--thumbnails"], "--thumbnails shows in --timeline only"),
        (["--segments", "cues.csv", "--timeline", "t.png"], "--segments shows in --summary only"),
        (["--model", "none"], "no model 'none'"),
        (["--summary", "missing.d/s.json"], "missing.d is no folder that can be written to"),
        (["--timeline", "missing.d/t.png"], "missing.d is no folder that can be written to"),
        (["--summary", "s" * 250 + ".json"], "File name too long"),  # that of its draft, at the end
        (["--every", "9" * 400], "--every: a duration of so many digits"),
        (["--server", "http://x", "--model-store", "models"], "--model-store does not go with --server"),
    ],
)
def test_what_cannot_be_done_is_told_before_the_film_is_seen(
    run: Run, film: Path, arguments: list[str], told: str, tmp_path: Path
) -> None:
    (tmp_path / "cues.csv").write_text("start,label\n0,all\n")
    result = run("video", film, *(tmp_path / one if "." in one else one for one in arguments))
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


def test_what_cannot_be_done_costs_no_rows_of_an_earlier_run(run: Run, film: Path, tmp_path: Path) -> None:
    rows_of_then = tmp_path / "rows.csv"
    rows_of_then.write_text("old")
    for other in (["--annotate", tmp_path / "film.webm"], ["--timeline", tmp_path / "t.doc"]):
        assert run("video", film, "--out", rows_of_then, *other).exit_code == 2
    assert rows_of_then.read_text() == "old"


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such files")
def test_a_pipe_is_not_replaced_by_a_file(run: Run, film: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for arguments in (["video", film, "--summary", pipe], ["analyze", PHOTO, "--out", pipe]):
        result = run(*arguments)
        assert result.exit_code == 2
        assert f"{pipe} is no regular file" in result.stderr
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_the_draft_of_a_link_lies_beside_what_it_leads_to(tmp_path: Path) -> None:
    long, short = tmp_path / ("l" * 250), tmp_path / "short.json"
    long.symlink_to(short)
    refuse_replacing("--summary", long)
    long.unlink()
    short.symlink_to(long)
    with pytest.raises(OSError, match="too long"):
        refuse_replacing("--summary", short)


def test_an_output_that_is_a_link_is_written_where_it_leads(run: Run, film: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    made = {"faces.csv": ["analyze", PHOTO, "--out"], "s.json": ["video", film, "--every", "2s", "--summary"]}
    for name, command in made.items():
        link, target = tmp_path / name, tmp_path / "elsewhere" / f"of-today-{name}"
        link.symlink_to(target)
        assert run(*command, link).exit_code == 0
        assert link.is_symlink()
        assert target.stat().st_size > 100
    assert len(list(tmp_path.rglob("*.*"))) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such file")
def test_rows_that_nobody_wants_may_go_nowhere(run: Run, film: Path, tmp_path: Path) -> None:
    link = tmp_path / "null.csv"
    link.symlink_to(os.devnull)
    with frame_outputs(Paths(link)):  # of another run, which does not own it
        assert run("video", film, "--every", "2s", "--out", link).exit_code == 0
    assert link.is_symlink()


def test_a_film_beside_the_folder_that_a_link_leads_to(run: Run, film: Path, tmp_path: Path) -> None:
    (tmp_path / "there" / "folder").mkdir(parents=True)
    (tmp_path / "there" / "20:15.mp4").write_bytes(film.read_bytes())
    (tmp_path / "link").symlink_to(tmp_path / "there" / "folder")
    assert run("video", tmp_path / "link" / ".." / "20:15.mp4", "--every", "2s").exit_code == 0


def test_a_link_in_a_circle_is_told(run: Run, film: Path, tmp_path: Path) -> None:
    link = tmp_path / "a.csv"
    link.symlink_to(link)
    result = run("video", film, "--out", link)
    assert result.exit_code == 2
    assert "Too many levels of symbolic links" in result.stderr


def test_a_name_with_dollar_signs_is_no_formula(run: Run, film: Path, tmp_path: Path) -> None:
    named, timeline = tmp_path / "cost$_$5.mp4", tmp_path / "t.svg"
    named.write_bytes(film.read_bytes())
    result = run("video", named, "--every", "1s", "--timeline", timeline)
    assert result.exit_code == 0, result.stderr
    assert timeline.stat().st_size > 10_000


def test_a_film_of_which_nothing_can_be_decoded_is_no_success(run: Run, film: Path, tmp_path: Path) -> None:
    broken, summary = tmp_path / "broken.mp4", tmp_path / "s.json"
    head, mark, rest = film.read_bytes().partition(b"mdat")
    pictures, index, tail = rest.partition(b"moov")
    broken.write_bytes(head + mark + b"\xff" * len(pictures) + index + tail)
    result = run("video", broken, "--summary", summary)
    assert result.exit_code == 2
    assert "broken.mp4: no picture in it can be decoded" in result.stderr
    assert not summary.exists()


@pytest.mark.parametrize("every", ["0s", "10s"])
def test_a_programme_ends_with_its_film_however_often_it_is_looked_at(
    run: Run, film: Path, tmp_path: Path, every: str
) -> None:
    summary = tmp_path / "s.json"
    run("video", film, "--every", every, "--window", "10s", "--summary", summary)
    figures = json.loads(summary.read_text())
    assert (figures["programme"]["end_s"], figures["timeline"][-1]["end_s"]) == (3.2, 3.2)


@pytest.mark.parametrize(("every", "window_s"), [("0.2s", 1), ("1.5s", 1.5)])
def test_no_step_of_the_timeline_is_empty_because_of_what_is_skipped(
    run: Run, film: Path, tmp_path: Path, every: str, window_s: float
) -> None:
    summary = tmp_path / "s.json"
    run("video", film, "--every", every, "--summary", summary)
    figures = json.loads(summary.read_text())
    assert figures["window_s"] == window_s
    assert all(window["frames"] for window in figures["timeline"])
