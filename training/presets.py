"""What is done to a batch of faces before the network sees it.

Every transform works on a whole batch, (B, 1, 48, 48) float32 in 0..1, on the device of the generator it
draws from, so that a seed repeats it. Evaluation uses `to_network` alone.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Augmentation:
    """Strengths of the random changes; 0 leaves one out.

    rotation: degrees either way; scale and shift: shares of the side, the jitter of a detector's box;
    contrast, brightness: shares of the range; resampled: share of faces shown at a lower resolution
    (as small faces reach the service); erased: share of faces with a rectangle blanked;
    blurred: share of faces out of focus; jpeg: share of faces that went through a JPEG file;
    noise: the largest standard deviation of Gaussian noise, as a share of the range;
    grid: share of faces under a grid of blanked squares (GridMask, Chen et al., 2020);
    mixed: share of batches in which pairs of faces are mixed; cut: share of those mixed by CutMix
    (Yun et al., 2019) instead of mixup (Zhang et al., 2018).
    """

    rotation: float = 12.0
    scale: float = 0.15
    shift: float = 0.08
    contrast: float = 0.3
    brightness: float = 0.15
    resampled: float = 0.25
    smallest_side: int = 18
    erased: float = 0.4
    blurred: float = 0.0
    jpeg: float = 0.0
    noise: float = 0.0
    grid: float = 0.0
    mixed: float = 0.0
    cut: float = 0.5


# The five of the paper: rotation, noise, grid, blur and flip. It gives no strengths; these are ours.
PAPER = Augmentation(
    rotation=15.0,
    scale=0.0,
    shift=0.0,
    contrast=0.0,
    brightness=0.0,
    resampled=0.0,
    erased=0.0,
    blurred=0.3,
    noise=0.06,
    grid=0.3,
)
# Adds to the default what a photo goes through before its faces reach the service.
ROBUST = Augmentation(blurred=0.2, jpeg=0.3, noise=0.03)


def to_network(images: Tensor) -> Tensor:
    """(B, 1, 48, 48) in 0..1 -> -1..1, the range the network works in."""
    return images * 2 - 1


def augment(images: Tensor, strength: Augmentation, generator: Generator) -> Tensor:
    """Apply all changes. (B, 1, 48, 48) float32 in 0..1 -> the same."""
    images = random_flip(images, generator)
    images = random_affine(images, strength, generator)
    if strength.blurred:
        images = random_blur(images, strength.blurred, generator)
    if strength.resampled:
        images = random_resolution(images, strength, generator)
    images = random_light(images, strength, generator)
    if strength.noise:
        images = random_noise(images, strength.noise, generator)
    if strength.jpeg:
        images = random_jpeg(images, strength.jpeg, generator)
    if strength.grid:
        images = random_grid(images, strength.grid, generator)
    return random_erase(images, strength.erased, generator)


def random_flip(images: Tensor, generator: Generator) -> Tensor:
    """Mirror half of the faces."""
    return torch.where(_chosen(images, 0.5, generator), images.flip(3), images)


def random_affine(images: Tensor, strength: Augmentation, generator: Generator) -> Tensor:
    """Rotate, scale and shift each face; what comes in from outside repeats the border."""
    angle = _symmetric(len(images), generator) * math.radians(strength.rotation)
    zoom = torch.exp(_symmetric(len(images), generator) * math.log1p(strength.scale))
    shift = torch.stack([_symmetric(len(images), generator) for _ in "xy"], 1) * 2 * strength.shift
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    theta = torch.stack((torch.stack((cos, -sin), 1), torch.stack((sin, cos), 1)), 1)  # (B, 2, 2)
    grid = F.affine_grid(torch.cat((theta, shift[:, :, None]), 2), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def random_blur(images: Tensor, share: float, generator: Generator) -> Tensor:
    """Put some faces out of focus: a Gaussian of 0.3 to 1.5 pixels, one for the whole batch."""
    sigma = 0.3 + 1.2 * float(_uniform(generator, 1))
    offsets = torch.arange(-3.0, 4.0, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(images, (3, 3, 3, 3), mode="replicate")
    blurred = F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, 7)), kernel.view(1, 1, 7, 1))
    return torch.where(_chosen(images, share, generator), blurred.clamp(0, 1), images)


def random_resolution(images: Tensor, strength: Augmentation, generator: Generator) -> Tensor:
    """Shrink some faces and enlarge them again: one smaller side for the whole batch."""
    side = images.shape[-1]
    smaller = int(
        torch.randint(strength.smallest_side, side, (1,), generator=generator, device=generator.device)
    )
    small = F.interpolate(images, size=(smaller, smaller), mode="area")
    back = F.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)
    return torch.where(_chosen(images, strength.resampled, generator), back, images)


def random_light(images: Tensor, strength: Augmentation, generator: Generator) -> Tensor:
    """Change contrast around each face's own mean, and brightness."""
    contrast = 1 + strength.contrast * _symmetric(len(images), generator)[:, None, None, None]
    brightness = strength.brightness * _symmetric(len(images), generator)[:, None, None, None]
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return ((images - mean) * contrast + mean + brightness).clamp(0, 1)


def random_noise(images: Tensor, largest: float, generator: Generator) -> Tensor:
    """Add Gaussian noise, of another strength to each face."""
    strength = largest * _uniform(generator, len(images), 1, 1, 1)
    noise = torch.randn(images.shape, generator=generator, device=generator.device)
    return (images + strength * noise).clamp(0, 1)


def random_jpeg(images: Tensor, share: float, generator: Generator) -> Tensor:
    """Write some faces to JPEG at quality 25 to 90 and read them again."""
    chosen = _chosen(images, share, generator).flatten().nonzero()[:, 0]
    quality = (25 + 65 * _uniform(generator, len(chosen))).int().tolist()
    result = images.clone()
    for index, level in zip(chosen.tolist(), quality, strict=True):
        result[index, 0] = _through_jpeg(images[index, 0], level)
    return result


def random_grid(images: Tensor, share: float, generator: Generator) -> Tensor:
    """Blank a grid of squares: one period of 8 to 16 pixels, half of it covered, placed anew on each face."""
    side, count = images.shape[-1], len(images)
    period = int(torch.randint(8, 17, (1,), generator=generator, device=generator.device))
    start = torch.randint(0, period, (2, count, 1), generator=generator, device=generator.device)
    covered = (torch.arange(side, device=images.device) + start) % period < period // 2  # (2, B, side)
    squares = covered[0][:, :, None] & covered[1][:, None, :]
    return torch.where(_chosen(images, share, generator) & squares[:, None], 0.5, images)


def random_erase(images: Tensor, share: float, generator: Generator) -> Tensor:
    """Fill a rectangle of 2 to 20 % of the area with noise, in a share of the faces (Zhong et al., 2017)."""
    count, side = len(images), images.shape[-1]
    inside = _rectangles(0.02 + 0.18 * _uniform(generator, count), side, generator)
    chosen = _chosen(images, share, generator)
    noise = _uniform(generator, *images.shape)
    return torch.where(inside[:, None] & chosen, noise, images)


def mix(
    images: Tensor, targets: Tensor, strength: Augmentation, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Mix each face and its target (B, 7) with another's, in a share of the batches."""
    mixed, cut, amount = _uniform(generator, 3).tolist()
    if mixed >= strength.mixed:
        return images, targets
    partner = torch.randperm(len(images), generator=generator, device=generator.device)
    if cut >= strength.cut:
        # Beta(1, 1) folded: the face itself keeps at least half.
        weight = torch.full((len(images), 1), 0.5 * amount, device=images.device)
        images = images.lerp(images[partner], weight[:, :, None, None])
    else:
        area = torch.full((len(images),), 0.5 * amount, device=images.device)
        inside = _rectangles(area, images.shape[-1], generator)
        images = torch.where(inside[:, None], images[partner], images)
        weight = inside.float().mean(dim=(1, 2))[:, None]
    return images, targets.lerp(targets[partner], weight.expand_as(targets))


def class_balanced(labels: Tensor, generator: Generator) -> Tensor:
    """Shuffled positions in which every class of labels (N,) comes as often as the largest one.

    A class is gone through whole before any of its images repeats; augmentation makes the repeats differ.
    """
    classes = [(labels == label).nonzero()[:, 0] for label in torch.unique(labels).tolist()]
    largest = max(len(members) for members in classes)
    chosen = torch.cat([_repeated(members, largest, generator) for members in classes])
    return chosen[torch.randperm(len(chosen), generator=generator, device=generator.device)]


def _repeated(members: Tensor, count: int, generator: Generator) -> Tensor:
    rounds = math.ceil(count / len(members))
    orders = [
        torch.randperm(len(members), generator=generator, device=generator.device) for _ in range(rounds)
    ]
    return members[torch.cat(orders)[:count]]


def _through_jpeg(image: Tensor, quality: int) -> Tensor:
    """(48, 48) in 0..1 -> the same after JPEG."""
    pixels = (image * 255).round().to("cpu", torch.uint8).numpy()
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    return torch.from_numpy(np.asarray(decoded, np.float32)).to(image.device) / 255


def _rectangles(area: Tensor, side: int, generator: Generator) -> Tensor:
    """Boolean (B, side, side): a rectangle of about `area` (B,), a share of the image, at a random place."""
    ratio = torch.exp(_symmetric(len(area), generator) * math.log(3))
    height, width = (area * ratio).sqrt() * side, (area / ratio).sqrt() * side
    return _span(height, side, generator)[:, :, None] & _span(width, side, generator)[:, None, :]


def _span(length: Tensor, side: int, generator: Generator) -> Tensor:
    """Boolean (B, side): a run of `length` pixels at a random place."""
    start = _uniform(generator, len(length)) * (side - length).clamp(min=0)
    position = torch.arange(side, device=length.device)[None]
    return (position >= start[:, None]) & (position < (start + length)[:, None])


def _chosen(images: Tensor, share: float, generator: Generator) -> Tensor:
    """Boolean (B, 1, 1, 1), true for about this share of the faces."""
    return _uniform(generator, len(images), 1, 1, 1) < share


def _symmetric(count: int, generator: Generator) -> Tensor:
    return _uniform(generator, count) * 2 - 1


def _uniform(generator: Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)
