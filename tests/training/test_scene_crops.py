import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from service.vision.crop import crop_face
from service.vision.mtcnn import DetectionParameters
from service.vision.types import DecodedImage, UInt8Array
from training.config import ConfigError
from training.data import Faces
from training.engine import Run
from training.evaluate import STORE
from training.network import build
from training.presets import to_network
from training.scene_crops import ignoring_interruption, scene_crops
from training.scenes import load_detector
from training.view_folder import load_source, load_view, save_source
from training.views import opinion, teacher, write_views

from .helpers import STILL, config, faces

ASTRONAUT = Path(__file__).parents[1] / "data" / "astronaut.jpg"


@pytest.fixture(scope="module")
def portrait() -> UInt8Array:
    """(48, 48), the astronaut's face."""
    read = cv2.imread(str(ASTRONAUT))
    assert read is not None
    height, width = read.shape[:2]
    image = DecodedImage(np.ascontiguousarray(read[:, :, ::-1], np.uint8), width, height, "jpeg", 1)
    (face,) = load_detector(STORE).detect(image, DetectionParameters(40.0))
    return crop_face(image, face)


def test_a_face_is_cropped_from_scenes_that_repeat_under_their_seed(portrait: UInt8Array) -> None:
    blank = np.full_like(portrait, 128)
    images = np.stack((portrait, blank, portrait))
    crops = scene_crops(images, 3)
    assert np.array_equal(crops[1], blank)  # no face to be found
    assert not np.array_equal(crops[0], crops[2])
    for crop in crops[[0, 2]]:
        assert not np.array_equal(crop, portrait)
        assert np.corrcoef(crop.ravel(), portrait.ravel())[0, 1] > 0.5
    assert np.array_equal(scene_crops(images, 3), crops)


def test_what_teachers_say_of_a_face_in_a_scene_is_half_of_what_they_say_of_it_as_published(
    tmp_path: Path, portrait: UInt8Array
) -> None:
    shown = Faces(np.stack([portrait] * 8), np.arange(8) % 7, np.full((8, 10), np.nan, np.float32))
    settings = config(augmentation=replace(STILL, in_scenes=0.5), held_out=0)
    network = teacher(tmp_path, str(STORE / "emotion" / "fast.onnx"))
    write_views(settings, shown, [network], tmp_path / "views", 1)
    view = load_view(tmp_path / "views" / "view-000.pt", torch.device("cpu"))
    published = torch.from_numpy(portrait)
    of_it, of_pixels = (
        opinion([network], to_network(images.float() / 255))
        for images in (published[None, None], view.images)
    )
    as_they_are = torch.stack([view.images[:, 0] == side for side in (published, published.flip(1))])
    in_scene = ~as_they_are.all((2, 3)).any(0)
    assert 0 < in_scene.sum() < 8
    assert (of_it - of_pixels)[in_scene].abs().amax(1).min() > 0.1
    said = torch.where(in_scene[:, None], (of_it + of_pixels) / 2, of_pixels)
    torch.testing.assert_close(view.taught.float(), said, atol=0.01, rtol=0)


def test_views_in_scenes_are_not_continued_with_another_detector(tmp_path: Path) -> None:
    settings = config(augmentation=replace(STILL, in_scenes=0.5))
    network = build(config()).eval()
    write_views(config(), faces(), [network], tmp_path / "framed", 0)
    assert "detector" not in load_source(tmp_path / "framed")
    write_views(settings, faces(), [network], tmp_path / "views", 0)
    save_source(load_source(tmp_path / "views") | {"detector": "an older one"}, tmp_path / "views")
    with pytest.raises(ConfigError, match="begun with other detector"):
        write_views(settings, faces(), [network], tmp_path / "views", 1)


def test_scenes_are_for_views_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="in_scenes is for views"):
        Run(config(augmentation=replace(STILL, in_scenes=0.5)), faces(), tmp_path / "run")


def test_processes_that_crop_leave_an_interruption_to_the_command() -> None:
    program = "import signal; print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)"
    before = signal.getsignal(signal.SIGINT)
    with ignoring_interruption():
        started = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert started.stdout == "True\n"
    assert signal.getsignal(signal.SIGINT) is before
