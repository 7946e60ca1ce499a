"""Decoding: every frame, at its own time, upright and in its true proportions."""

from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from av.container import OutputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream
from PIL import Image

from service.media.errors import SourceError
from service.media.frames import Frame, Video, camera, oriented
from service.vision.types import UInt8Array
from tests.media import clip


def read(path: Path, every_s: float = 0) -> list[Frame]:
    with Video.open(str(path)) as video:
        frames = list(video.frames(every_s))
        assert video.damaged == 0
    return frames


def corners() -> UInt8Array:
    """A picture whose four quarters differ: 0, 80, 160, 240."""
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:32, 48:], picture[32:, :48], picture[32:, 48:] = 80, 160, 240
    return picture


def quarters(pixels: UInt8Array) -> list[int]:
    height, width = pixels.shape[0] // 4, pixels.shape[1] // 4
    return [round(float(pixels[y, x].mean()) / 80) * 80 for y in (height, -height) for x in (width, -width)]


def test_no_frame_is_lost_and_each_has_its_time(film: Path) -> None:
    frames = read(film)
    assert [frame.index for frame in frames] == list(range(len(clip.act())))
    assert [frame.time_s for frame in frames] == pytest.approx([i / clip.FPS for i in range(len(frames))])
    assert frames[0].pixels.shape == (clip.HEIGHT, clip.WIDTH, 3)
    difference = np.abs(frames[3].pixels.astype(int) - clip.frame(clip.act()[3][0]))
    assert difference.mean() < 4


def test_variable_frame_rate_keeps_the_times_of_the_frames(tmp_path: Path) -> None:
    times = [0, 0.04, 0.08, 0.5, 0.52, 0.54, 1.7, 1.72, 3.0]
    path = clip.write(tmp_path / "vfr.mp4", [clip.frame(None)] * len(times), times)
    assert [frame.time_s for frame in read(path)] == pytest.approx(times)
    assert [frame.time_s for frame in read(path, 0.2)] == pytest.approx([0, 0.5, 1.7, 3.0])
    assert [frame.index for frame in read(path, 0.5)] == [0, 3, 6, 8]


def test_time_goes_on_where_the_clock_of_a_joined_film_begins_anew(tmp_path: Path) -> None:
    path = clip.write(tmp_path / "one.ts", [clip.frame(None)] * 20)
    path.write_bytes(path.read_bytes() * 3)
    assert [frame.time_s for frame in read(path)] == pytest.approx([i / clip.FPS for i in range(60)])
    assert [frame.index for frame in read(path, 0.5)] == list(range(0, 60, 5))


@pytest.mark.parametrize("starts", [(3600, 10), (2**33 / 90_000 - 1,)])
def test_time_goes_on_where_the_clock_is_set_back_or_overflows(
    tmp_path: Path, starts: tuple[float, ...]
) -> None:
    path, films = tmp_path / "set.ts", []
    for start in starts:
        times = [start + i / clip.FPS for i in range(20)]
        films.append(clip.write(path, [clip.frame(None)] * 20, times).read_bytes())
    path.write_bytes(b"".join(films))
    expected = [i / clip.FPS for i in range(20 * len(starts))]
    assert [frame.time_s for frame in read(path)] == pytest.approx(expected)


def still(container: OutputContainer) -> VideoStream:
    """A stream whose pictures are encoded one by one."""
    stream = container.add_stream("libx264", rate=25, options={"tune": "zerolatency"})
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    return stream


@pytest.mark.parametrize("astray", [{0}, {0, 1}, {50}, {98}, {1, 2, 3, 4}, {50, 51}, {95, 96, 97, 98}])
def test_a_few_damaged_times_move_no_others(tmp_path: Path, astray: set[int]) -> None:
    path, times = tmp_path / "astray.ts", [i / 25 for i in range(100)]
    with av.open(str(path), "w") as container:
        stream, other = still(container), still(container)
        for number in range(100):
            picture = VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, 25)
            container.mux(other.encode(picture))
            (packet,) = stream.encode(picture)
            assert packet.pts is not None
            assert packet.time_base
            # Never two in line with each other.
            packet.pts += round((20_000 + 100 * number) / packet.time_base) * (number in astray)
            container.mux(packet)
    assert [frame.time_s for frame in read(path)] == pytest.approx(times)


def test_times_are_whole_microseconds(tmp_path: Path) -> None:
    """A segment or a window from 1.3 s on has the frame at 1.3 s, though its file's clock began at 1.4 s."""
    path = clip.write(tmp_path / "clock.ts", [clip.frame(None)] * 40)
    assert [frame.time_s for frame in read(path)] == [i / clip.FPS for i in range(40)]


def test_the_last_frame_lasts_as_long_as_its_file_says(tmp_path: Path) -> None:
    path = tmp_path / "slides.gif"
    first, *others = (Image.new("RGB", (64, 48), color) for color in ("red", "green", "blue"))
    first.save(path, save_all=True, append_images=others, duration=[5000, 500, 8000])
    with Video.open(str(path)) as video:
        assert [frame.time_s for frame in video.frames(0)] == [0, 5, 5.5]
        assert video.end_s == 13.5


def test_how_long_a_film_is_may_not_be_told(film: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw.mjpeg"
    Image.fromarray(corners()).save(raw, "JPEG")
    lasts = []
    for path in (film, raw):
        with Video.open(str(path)) as video:
            lasts.append(video.duration_s)
    assert lasts == [3.2, None]


def test_of_several_views_the_one_that_players_show_is_read(tmp_path: Path) -> None:
    path = tmp_path / "views.mkv"
    with av.open(str(path), "w") as container:
        views = [still(container) for _ in range(2)]
        views[0].disposition, views[1].disposition = Disposition(0), Disposition.default
        for shade, view in enumerate(views, start=1):
            picture = VideoFrame.from_ndarray(np.full((48, 64, 3), 80 * shade, np.uint8), format="rgb24")
            container.mux([*view.encode(picture), *view.encode()])
    assert read(path)[0].pixels.mean() == pytest.approx(160, abs=2)


def test_sampling_keeps_to_the_grid(film: Path) -> None:
    assert [frame.index for frame in read(film, 0.2)] == list(range(0, 32, 2))
    assert [frame.index for frame in read(film, 0.25)] == [0, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28, 30]


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 1), [0, 80, 160, 240]),
        ((0, 1, -1, 0), [160, 0, 240, 80]),
        ((-1, 0, 0, -1), [240, 160, 80, 0]),
        ((0, -1, 1, 0), [80, 240, 0, 160]),
        ((-1, 0, 0, 1), [80, 0, 240, 160]),
        ((1, 0, 0, -1), [160, 240, 0, 80]),
        ((0, 1, 1, 0), [0, 160, 80, 240]),
        ((0, -1, -1, 0), [240, 80, 160, 0]),
    ],
)
def test_display_matrices_are_respected(
    tmp_path: Path, matrix: tuple[int, int, int, int], expected: list[int]
) -> None:
    assert quarters(oriented(corners(), matrix)) == expected
    path = clip.flag(clip.write(tmp_path / "turned.mp4", [corners()] * 3), matrix)
    assert [quarters(frame.pixels) for frame in read(path)] == [expected] * 3


@pytest.mark.parametrize(("orientation", "angle"), [(1, 0), (3, 180), (6, 90), (8, 270)])
def test_frames_with_exif_are_read_and_turned(tmp_path: Path, orientation: int, angle: int) -> None:
    """As in a time-lapse of a camera's JPEGs, or one photo."""
    exif, jpeg = Image.Exif(), BytesIO()
    exif[0x112] = orientation
    stored = Image.fromarray(corners()).rotate(angle, expand=True)
    stored.save(jpeg, "JPEG", quality=95, exif=exif.tobytes())
    path = tmp_path / "lapse.mjpeg"
    path.write_bytes(jpeg.getvalue() * 3)
    assert [quarters(frame.pixels) for frame in read(path)] == [[0, 80, 160, 240]] * 3


def test_anamorphic_pictures_get_their_proportions_back(tmp_path: Path) -> None:
    path = clip.write(tmp_path / "wide.mp4", [corners()] * 2, aspect=Fraction(3, 2))
    assert read(path)[0].pixels.shape == (64, 144, 3)


def test_pixels_that_change_their_shape_on_the_way_are_followed(tmp_path: Path) -> None:
    """As in a recording of television from a 4:3 to a 16:9 programme."""
    path, aspects = tmp_path / "joined.ts", (Fraction(1), Fraction(3, 2))
    films = [clip.write(path, [corners()] * 20, aspect=aspect).read_bytes() for aspect in aspects]
    path.write_bytes(b"".join(films))
    assert [frame.pixels.shape[1] for frame in read(path)] == [96] * 20 + [144] * 20


@pytest.mark.parametrize("aspect", [Fraction(200), Fraction(1, 200)])
def test_proportions_that_no_film_has_are_not_believed(tmp_path: Path, aspect: Fraction) -> None:
    path = clip.write(tmp_path / "absurd.mp4", [clip.frame(None)], aspect=aspect)
    assert read(path)[0].pixels.shape == (clip.HEIGHT, clip.WIDTH, 3)


@pytest.mark.parametrize(
    ("size", "space"),
    [((1280, 720), Colorspace.ITU709), ((576, 1024), Colorspace.ITU709), ((720, 576), Colorspace.ITU601)],
)
def test_colors_that_a_film_does_not_describe_are_those_of_its_size(
    tmp_path: Path, size: tuple[int, int], space: Colorspace
) -> None:
    path = tmp_path / "red.mp4"
    with av.open(str(path), "w") as container:
        stream = still(container)
        stream.width, stream.height = size
        red = VideoFrame.from_ndarray(np.full((*size[::-1], 3), (192, 48, 32), np.uint8), format="rgb24")
        container.mux(stream.encode(red.reformat(format="yuv420p", dst_colorspace=space)))
        container.mux(stream.encode())
    assert read(path)[0].pixels[9, 9] == pytest.approx([192, 48, 32], abs=3)


def test_pictures_that_cannot_be_converted_are_told(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(bytes(64 * 48 * 12))
    kind = {"pixel_format": "rgb96le", "video_size": "64x48"}
    with (
        Video(av.open(str(tmp_path / "raw"), format="rawvideo", options=kind), live=False) as video,
        pytest.raises(SourceError, match="rgb96le pictures cannot be turned into RGB"),
    ):
        list(video.frames(0))


def test_a_damaged_film_is_read_past_the_damage(tmp_path: Path) -> None:
    pictures = [clip.frame(pose) for pose, _ in clip.act()]
    path = clip.write(tmp_path / "act.ts", pictures)
    data = bytearray(path.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 4000] = bytes(4000)
    path.write_bytes(data)
    with Video.open(str(path)) as video:
        frames = list(video.frames(0))
    assert 10 <= len(frames) <= len(pictures)
    assert frames[-1].time_s == pytest.approx((len(pictures) - 1) / clip.FPS, abs=0.2)


def test_what_is_no_video_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"no film")
    for name in ("x.mp4", "missing.mp4"):
        with pytest.raises(SourceError, match="cannot be opened as a video"):
            Video.open(str(tmp_path / name))


def test_a_cover_is_no_film(tmp_path: Path) -> None:
    path = tmp_path / "music.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 96, 64, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        picture = VideoFrame.from_ndarray(corners(), format="rgb24")
        container.mux([*cover.encode(picture), *cover.encode()])
    with pytest.raises(SourceError, match="holds no video"):
        Video.open(str(path))


def test_cameras_are_numbers_and_device_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert camera("0") == "/dev/video0"
    assert camera("/dev/video12") == "/dev/video12"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "7").touch()
    assert camera("7") is None
    assert camera("film.mp4") is None
    with pytest.raises(SourceError, match="9999 cannot be opened"):
        Video.open("9999")


def test_a_device_that_goes_away_is_told() -> None:
    # Frames, and then a filter that fails as an unplugged camera does.
    gone = "testsrc=rate=10:size=64x48,scale=w='if(eq(n,5),1e9,64)':h=48:eval=frame"
    with Video(av.open(gone, format="lavfi"), live=True) as video:
        frames = video.frames(0)
        assert [next(frames).time_s for _ in range(3)] == pytest.approx([0, 0.1, 0.2])
        with pytest.raises(SourceError, match="the video broke off after"):
            list(frames)
