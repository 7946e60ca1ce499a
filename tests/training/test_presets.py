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
    random_blur,
    random_jpeg,
    random_resolution,
    to_network,
)

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
    still = Augmentation(0, 0, 0, 0, 0, resampled=0, erased=0)
    before = images()
    after = augment(before, still, Generator().manual_seed(1))
    for image, original in zip(after, before, strict=True):
        assert any(torch.allclose(image, view, atol=1e-4) for view in (original, original.flip(2)))


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
