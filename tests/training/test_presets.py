import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from training.presets import (
    PAPER,
    ROBUST,
    Augmentation,
    augment,
    class_balanced,
    mix,
    random_jpeg,
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


def test_jpeg_changes_the_chosen_faces_a_little() -> None:
    smooth = torch.linspace(0, 1, 48).expand(4, 1, 48, 48).clone()
    assert torch.equal(random_jpeg(smooth, 0.0, Generator().manual_seed(1)), smooth)
    difference = (random_jpeg(smooth, 1.0, Generator().manual_seed(1)) - smooth).abs()
    assert 0 < difference.max() < 0.1


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


def test_mixing_leaves_the_other_batches_alone() -> None:
    pictures, targets = images(), torch.eye(16)
    assert mix(pictures, targets, Augmentation(), Generator().manual_seed(3)) == (pictures, targets)


def test_balanced_classes_come_equally_often_and_none_is_lost() -> None:
    labels = torch.tensor([0] * 9 + [1] * 4 + [2])
    order = class_balanced(labels, Generator().manual_seed(0))
    assert torch.bincount(labels[order]).tolist() == [9, 9, 9]
    assert set(order.tolist()) == set(range(14))
    assert np.diff(np.sort(torch.bincount(order)[9:13].numpy())).max() <= 1


def test_the_network_sees_minus_one_to_one() -> None:
    assert to_network(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-1, 0, 1]
