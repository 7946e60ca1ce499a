"""What is done to a batch of faces before the network sees it.

Every transform works on a whole batch, (B, 1, 48, 48) float32 in 0..1, and draws from one generator,
so that a seed repeats it.
"""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Augmentation:
    """Strengths of the random changes; 0 leaves one out.

    rotation: degrees either way; scale and shift: shares of the side, the jitter of a detector's box;
    contrast, brightness: shares of the range; resampled: share of faces shown at a lower resolution
    (as small faces reach the service); erased: share of faces with a rectangle blanked.
    """

    rotation: float = 12.0
    scale: float = 0.15
    shift: float = 0.08
    contrast: float = 0.3
    brightness: float = 0.15
    resampled: float = 0.25
    smallest_side: int = 18
    erased: float = 0.4


def to_network(images: Tensor) -> Tensor:
    """(B, 1, 48, 48) in 0..1 -> -1..1, the range the network works in."""
    return images * 2 - 1


def augment(images: Tensor, strength: Augmentation, generator: Generator) -> Tensor:
    """Apply all changes. (B, 1, 48, 48) float32 in 0..1 -> the same."""
    images = random_flip(images, generator)
    images = random_affine(images, strength, generator)
    images = random_resolution(images, strength, generator)
    images = random_light(images, strength, generator)
    return random_erase(images, strength.erased, generator)


def random_flip(images: Tensor, generator: Generator) -> Tensor:
    """Mirror half of the faces."""
    flip = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(flip, images.flip(3), images)


def random_affine(images: Tensor, strength: Augmentation, generator: Generator) -> Tensor:
    """Rotate, scale and shift each face; what comes in from outside repeats the border."""
    angle = _symmetric(len(images), generator) * math.radians(strength.rotation)
    zoom = torch.exp(_symmetric(len(images), generator) * math.log1p(strength.scale))
    shift = torch.stack([_symmetric(len(images), generator) for _ in "xy"], 1) * 2 * strength.shift
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    theta = torch.stack((torch.stack((cos, -sin), 1), torch.stack((sin, cos), 1)), 1)  # (B, 2, 2)
    grid = F.affine_grid(torch.cat((theta, shift[:, :, None]), 2), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def random_resolution(images: Tensor, strength: Augmentation, generator: Generator) -> Tensor:
    """Shrink some faces and enlarge them again: one smaller side for the whole batch."""
    side = images.shape[-1]
    smaller = int(torch.randint(strength.smallest_side, side, (1,), generator=generator))
    small = F.interpolate(images, size=(smaller, smaller), mode="area")
    back = F.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)
    chosen = torch.rand(len(images), 1, 1, 1, generator=generator) < strength.resampled
    return torch.where(chosen, back, images)


def random_light(images: Tensor, strength: Augmentation, generator: Generator) -> Tensor:
    """Change contrast around each face's own mean, and brightness."""
    contrast = 1 + strength.contrast * _symmetric(len(images), generator)[:, None, None, None]
    brightness = strength.brightness * _symmetric(len(images), generator)[:, None, None, None]
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return ((images - mean) * contrast + mean + brightness).clamp(0, 1)


def random_erase(images: Tensor, share: float, generator: Generator) -> Tensor:
    """Fill a rectangle of 2 to 20 % of the area with noise, in a share of the faces (Zhong et al., 2017)."""
    count, side = len(images), images.shape[-1]
    area = 0.02 + 0.18 * torch.rand(count, generator=generator)
    ratio = torch.exp(_symmetric(count, generator) * math.log(3))
    height, width = (area * ratio).sqrt() * side, (area / ratio).sqrt() * side
    inside = _span(height, side, generator)[:, :, None] & _span(width, side, generator)[:, None, :]
    chosen = torch.rand(count, 1, 1, generator=generator) < share
    noise = torch.rand(images.shape, generator=generator)
    return torch.where((inside & chosen)[:, None], noise, images)


def _span(length: Tensor, side: int, generator: Generator) -> Tensor:
    """Boolean (B, side): a run of `length` pixels at a random place."""
    start = torch.rand(len(length), generator=generator) * (side - length)
    position = torch.arange(side)[None]
    return (position >= start[:, None]) & (position < (start + length)[:, None])


def _symmetric(count: int, generator: Generator) -> Tensor:
    return torch.rand(count, generator=generator) * 2 - 1
