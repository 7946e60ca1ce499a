"""Annotated films: of any size, and refused at once where the format cannot hold them."""

from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace

from service.media.encoder import VideoWriter
from service.media.errors import SourceError
from service.media.frames import Video


@pytest.mark.parametrize(
    ("size", "written"), [((48, 64), (48, 64)), ((49, 65), (48, 64)), ((1, 5), (2, 4)), ((5, 1), (4, 2))]
)
def test_a_picture_of_any_size_can_be_written(
    tmp_path: Path, size: tuple[int, int], written: tuple[int, int]
) -> None:
    writer = VideoWriter(tmp_path / "film.mp4")
    for number in range(2):
        writer.write(number / 10, np.zeros((*size, 3), np.uint8))
    writer.close()
    with av.open(str(tmp_path / "film.mp4")) as film:
        assert [(frame.height, frame.width) for frame in film.decode(video=0)] == [written] * 2


def test_a_picture_can_be_shown_for_a_day(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "film.mp4")
    for hours in (0, 1, 25):
        writer.write(hours * 3600, np.full((48, 64, 3), 10 * hours, np.uint8))
    writer.close()
    with av.open(str(tmp_path / "film.mp4")) as film:
        frames = [(frame.time, frame.to_ndarray(format="gray")[0, 0]) for frame in film.decode(video=0)]
    assert [time for time, _ in frames] == [hours * 3600 for hours in range(26)]
    assert np.diff([int(gray) for _, gray in frames]).nonzero()[0].tolist() == [0, 24]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "ts", "flv"])
def test_each_picture_has_its_own_time(tmp_path: Path, suffix: str) -> None:
    times, path = [0.0, 0.2, 0.4, 0.7, 2.0, 3600.0], tmp_path / f"film.{suffix}"
    writer = VideoWriter(path)
    for number, time_s in enumerate(times):
        writer.write(time_s, np.full((48, 64, 3), 40 * number, np.uint8))
    writer.close()
    with av.open(str(path)) as film:
        assert [frame.time for frame in film.decode(video=0)] == pytest.approx(times, abs=1e-3)
        if suffix != "ts":  # which does not say how long it is
            assert film.duration == pytest.approx(3600e6, abs=1e6)


def test_colors_are_those_that_the_film_says_it_has(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "film.mp4")
    writer.write(0, np.full((48, 64, 3), (192, 48, 32), np.uint8))
    writer.close()
    with av.open(str(tmp_path / "film.mp4")) as film:
        frame = next(film.decode(video=0))
    assert frame.colorspace == Colorspace.ITU709
    assert frame.to_ndarray(format="rgb24")[20, 20] == pytest.approx([192, 48, 32], abs=3)


@pytest.mark.parametrize("name", ["20:15.mp4", "pipe:film.mp4"])
def test_a_colon_in_a_name_is_no_protocol(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    writer = VideoWriter(Path(name))
    writer.write(0, np.zeros((48, 64, 3), np.uint8))
    writer.close()
    with Video.open(name) as film:
        assert len(list(film.frames(0))) == 1


@pytest.mark.parametrize("suffix", ["webm", "gif", "mp3", "jpg", "xyz"])
def test_a_format_that_cannot_hold_the_film_is_told_at_once(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(SourceError, match=f"film.{suffix} cannot be written as a video"):
        VideoWriter(tmp_path / f"film.{suffix}")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no folder"):
        VideoWriter(tmp_path / "missing" / "film.mp4")
    (tmp_path / "film.mp4").mkdir()
    writer = VideoWriter(tmp_path / "film.mp4")
    writer.write(0, np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(SourceError, match=r"film.mp4 cannot be written as a video: .*Is a directory"):
        writer.close()


def test_a_film_without_a_frame_is_no_file(tmp_path: Path) -> None:
    VideoWriter(tmp_path / "film.mp4").close()
    assert not list(tmp_path.iterdir())
