from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from training.presets import (
    PAPER,
    ROBUST,
    Augmentation,
    augment,
    class_balanced,
    mix,
    random_affine,
    random_blur,
    random_erase,
    random_flip,
    random_grid,
    random_jpeg,
    random_light,
    random_noise,
    random_resolution,
    to_network,
)

from .helpers import STILL

MIXED = {"mixup": Augmentation(mixed=1, cut=0), "cutmix": Augmentation(mixed=1, cut=1)}


def images(count: int = 16) -> Tensor:
    return torch.rand(count, 1, 48, 48, generator=Generator().manual_seed(7))


@pytest.mark.parametrize("strength", [Augmentation(), PAPER, ROBUST], ids=["default", "paper", "robust"])
def test_augmentation_keeps_shape_range_and_repeats_under_a_seed(strength: Augmentation) -> None:
    one, again, other = (augment(images(), strength, Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert one.shape == (16, 1, 48, 48)
    assert one.dtype == torch.float32
    assert 0 <= one.min() <= one.max() <= 1
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_without_strength_only_the_mirror_is_left() -> None:
    before = images()
    after = augment(before, STILL, Generator().manual_seed(1))
    for image, original in zip(after, before, strict=True):
        assert any(torch.allclose(image, view, atol=1e-4) for view in (original, original.flip(2)))


@pytest.mark.parametrize("name", ["blurred", "resampled", "noise", "jpeg", "grid", "erased"])
def test_each_strength_is_applied(name: str) -> None:
    left_out, applied = (replace(STILL, **{name: share}) for share in (0.0, 1.0))  # type: ignore[arg-type]
    still, changed = (augment(images(4), some, Generator().manual_seed(1)) for some in (left_out, applied))
    assert not torch.isclose(still, changed, atol=1e-3).flatten(1).all(1).any()


def test_half_of_the_faces_are_mirrored() -> None:
    flipped = (random_flip(images(100), Generator().manual_seed(1)) != images(100)).flatten(1).any(1)
    assert 35 < flipped.sum() < 65


def moved(strength: Augmentation) -> dict[str, Tensor]:
    """What becomes of an upright bar of 24x8 pixels: its area, middle and lean in degrees, (200,) each."""
    bar = torch.zeros(1, 1, 48, 48)
    bar[:, :, 12:36, 20:28] = 1
    shown = random_affine(bar.expand(200, 1, 48, 48), strength, Generator().manual_seed(1))[:, 0]
    place = torch.arange(48.0) - 23.5
    area = shown.sum((1, 2))
    x, y = ((shown * at).sum((1, 2)) / area for at in (place, place[:, None]))
    across, down = place - x[:, None], place - y[:, None]
    xx, yy = ((shown.sum(axis) * away**2).sum(1) for axis, away in ((1, across), (2, down)))
    xy = (shown * across[:, None] * down[:, :, None]).sum((1, 2))
    return {"area": area / 192, "x": x, "y": y, "lean": torch.rad2deg(0.5 * torch.atan2(2 * xy, yy - xx))}


def test_faces_turn_grow_and_move_as_far_as_they_may() -> None:
    turned, grown = moved(replace(STILL, rotation=20)), moved(replace(STILL, scale=0.3))
    shifted = moved(replace(STILL, shift=0.1))
    for lean, side in ((turned["lean"], 1), (turned["lean"], -1)):
        assert 17 < (side * lean).max() < 21
    assert (turned["area"] - 1).abs().max() < 0.03
    assert grown["area"].max().sqrt() == pytest.approx(1.3, abs=0.05)
    assert grown["area"].min().sqrt() == pytest.approx(1 / 1.3, abs=0.05)
    for way in ("x", "y"):
        assert 4.3 < shifted[way].max() < 4.9
        assert -4.9 < shifted[way].min() < -4.3


def test_light_changes_contrast_about_the_mean_and_brightness() -> None:
    gray = 0.4 + 0.2 * images(200)
    contrasted = random_light(gray, replace(STILL, contrast=0.3), Generator().manual_seed(1))
    torch.testing.assert_close(contrasted.mean((1, 2, 3)), gray.mean((1, 2, 3)))
    spread = contrasted.std((1, 2, 3)) / gray.std((1, 2, 3))
    assert [spread.min().item(), spread.max().item()] == pytest.approx([0.7, 1.3], abs=0.05)
    brighter = random_light(gray, replace(STILL, brightness=0.1), Generator().manual_seed(1)) - gray
    assert [brighter.min().item(), brighter.max().item()] == pytest.approx([-0.1, 0.1], abs=0.02)


def test_noise_is_of_no_colour_and_of_another_strength_for_each_face() -> None:
    noise = random_noise(torch.full((200, 1, 48, 48), 0.5), 0.1, Generator().manual_seed(1)) - 0.5
    assert noise.mean().abs() < 0.001
    spread = noise.std((1, 2, 3))
    assert [spread.min().item(), spread.max().item()] == pytest.approx([0, 0.1], abs=0.01)


def test_a_part_of_some_faces_is_hidden() -> None:
    gray = torch.full((400, 1, 48, 48), 2.0)
    erased = random_erase(gray, 0.5, Generator().manual_seed(1)) != 2
    area = erased.float().mean((1, 2, 3))
    assert 150 < (area > 0).sum() < 250
    assert [area[area > 0].min().item(), area.max().item()] == pytest.approx([0.02, 0.2], abs=0.02)
    assert erased.any(0).float().mean() > 0.85  # anywhere
    covered = (random_grid(gray, 1.0, Generator().manual_seed(1)) != 2).float().mean((1, 2, 3))
    assert 0.15 < covered.min() < covered.max() < 0.35


def test_jpeg_leaves_what_a_jpeg_file_leaves() -> None:
    noise = torch.rand(1, 1, 12, 12, generator=Generator().manual_seed(7))
    picture = F.interpolate(noise, size=(48, 48), mode="bilinear")
    assert torch.equal(random_jpeg(picture, 0.0, Generator().manual_seed(1)), picture)
    seen = random_jpeg(picture, 1.0, Generator().manual_seed(1))
    quality = int(25 + 65 * torch.rand(1, generator=Generator().manual_seed(1)))
    pixels = (picture[0, 0] * 255).round().byte().numpy()
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    file = torch.from_numpy(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)) / 255
    assert (seen[0, 0] - file).abs().mean() < 0.2 * (picture[0, 0] - file).abs().mean()


def test_blur_is_of_up_to_one_and_a_half_pixels() -> None:
    dot = torch.zeros(1, 1, 48, 48)
    dot[..., 24, 24] = 1
    shown = random_blur(dot.expand(300, 1, 48, 48), 1.0, Generator().manual_seed(1))[:, 0]
    spread = (shown.sum(1) * (torch.arange(48.0) - 24) ** 2).sum(1).sqrt()
    assert spread.max().item() == pytest.approx(1.5, abs=0.05)
    assert spread.min() < 0.4


def test_each_face_is_blurred_and_resampled_by_its_own_amount() -> None:
    same = images(1).expand(8, 1, 48, 48)
    only = Augmentation(0, 0, 0, 0, 0, resampled=1, erased=0)
    for changed in (
        random_blur(same, 1.0, Generator().manual_seed(1)),
        random_resolution(same, only, Generator().manual_seed(1)),
    ):
        torch.testing.assert_close(changed.mean(dim=(1, 2, 3)), same.mean(dim=(1, 2, 3)), atol=0.01, rtol=0)
        assert (changed.std(dim=(1, 2, 3)) < same.std(dim=(1, 2, 3))).all()
        assert len({image.numpy().tobytes() for image in changed}) > 4


@pytest.mark.parametrize("kind", MIXED)
def test_mixing_keeps_targets_distributions_that_fit_the_pixels(kind: str) -> None:
    # Image i is all i / 15 and has its own class, so the target's mean tells the image's mean.
    values = torch.arange(16) / 15
    pictures = values.view(16, 1, 1, 1).expand(16, 1, 48, 48)
    mixed, targets = mix(pictures, torch.eye(16), MIXED[kind], Generator().manual_seed(3))
    torch.testing.assert_close(targets.sum(1), torch.ones(16))
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), targets @ values)
    assert not torch.equal(mixed, pictures)
    # By mixup a face is changed as a whole, by CutMix in a part.
    assert bool((mixed.flatten(1).std(1) < 1e-6).all()) == (kind == "mixup")
    assert (targets.diagonal() >= 0.49).all()


def test_mixing_leaves_the_other_faces_alone() -> None:
    pictures, targets = images(), torch.eye(16)
    mixed, wanted = mix(pictures, targets, Augmentation(), Generator().manual_seed(3))
    assert torch.equal(mixed, pictures)
    assert torch.equal(wanted, targets)


def test_balanced_classes_come_equally_often_and_none_is_lost() -> None:
    labels = torch.tensor([0] * 9 + [1] * 4 + [2])
    order = class_balanced(labels, Generator().manual_seed(0))
    assert torch.bincount(labels[order]).tolist() == [9, 9, 9]
    assert set(order.tolist()) == set(range(14))
    assert np.diff(np.sort(torch.bincount(order)[9:13].numpy())).max() <= 1


def test_the_network_sees_minus_one_to_one() -> None:
    assert to_network(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-1, 0, 1]
