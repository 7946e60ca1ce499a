from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from training.data import DataError
from training.mtcnn.pictures import files, pictures, varied


def test_pictures_are_seen_at_several_sizes_and_mirrored() -> None:
    picture = np.arange(100 * 200 * 3).astype(np.uint8).reshape(100, 200, 3)
    shown = list(varied([picture]))
    assert {view.shape[1] for view in shown} == {200, 176, 152, 230, 260}
    assert np.array_equal(shown[-1], picture[:, ::-1])


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(ValueError, match=r"notes\.txt cannot be read"):
        list(pictures([tmp_path / "notes.txt"]))


def test_a_photo_stands_upright_as_its_camera_says(tmp_path: Path) -> None:
    lying = np.zeros((16, 32, 3), np.uint8)
    lying[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    Image.fromarray(lying).save(tmp_path / "photo.jpg", exif=exif)
    (upright,) = pictures([tmp_path / "photo.jpg"])
    assert upright.shape == (32, 16, 3)
    assert upright[:14].min() > 200
    assert upright[18:].max() < 50


def test_of_a_video_some_frames_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "film.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (32, 16))
    for index in range(51):
        video.write(np.full((16, 32, 3), 4 * index, np.uint8))
    video.release()
    assert [round(picture.mean() / 4) for picture in pictures([path])] == [0, 25, 50]


def test_a_folder_gives_the_files_in_it(tmp_path: Path) -> None:
    (tmp_path / "day.1").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        files([tmp_path])
    (tmp_path / "day.1" / "one.jpg").touch()
    assert files([tmp_path]) == [tmp_path / "day.1" / "one.jpg"]
