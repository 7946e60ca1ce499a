"""What is done to a batch of faces before the network sees it.

Every transform works on a whole batch, (B, 1, 48, 48) float32 in 0..1, on the device of the generator it
draws from, so that a seed repeats it, and never waits for that device: each face is changed by its own
amount, and no amount is ever read back. Evaluation uses `to_network` alone.
"""

import math
from dataclasses import dataclass
from functools import cache

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
    mixed: share of faces that are mixed with another; cut: share of those mixed by CutMix
    (Yun et al., 2019) instead of mixup (Zhang et al., 2018);
    in_scenes: share of faces as the service finds and crops them, in views alone (`training.scene_crops`).
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
    in_scenes: float = 0.0


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

LUMINANCE = (
    (16.0, 11.0, 10.0, 16.0, 24.0, 40.0, 51.0, 61.0),
    (12.0, 12.0, 14.0, 19.0, 26.0, 58.0, 60.0, 55.0),
    (14.0, 13.0, 16.0, 24.0, 40.0, 57.0, 69.0, 56.0),
    (14.0, 17.0, 22.0, 29.0, 51.0, 87.0, 80.0, 62.0),
    (18.0, 22.0, 37.0, 56.0, 68.0, 109.0, 103.0, 77.0),
    (24.0, 35.0, 55.0, 64.0, 81.0, 104.0, 113.0, 92.0),
    (49.0, 64.0, 78.0, 87.0, 103.0, 121.0, 120.0, 101.0),
    (72.0, 92.0, 95.0, 98.0, 112.0, 100.0, 103.0, 99.0),
)


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
    """Put some faces out of focus: a Gaussian of 0.3 to 1.5 pixels."""
    sigma = 0.3 + 1.2 * _uniform(generator, len(images), 1, 1)
    position = torch.arange(float(images.shape[-1]), device=images.device)
    kernel = torch.exp(-0.5 * ((position[:, None] - position) / sigma) ** 2)  # (B, side, side)
    blurred = _on_both_axes(kernel / kernel.sum(2, keepdim=True), images)
    return torch.where(_chosen(images, share, generator), blurred.clamp(0, 1), images)


def random_resolution(images: Tensor, strength: Augmentation, generator: Generator) -> Tensor:
    """Shrink some faces and enlarge them again."""
    resamplers = _resamplers(images.shape[-1], strength.smallest_side, images.device)
    which = torch.randint(0, len(resamplers), (len(images),), generator=generator, device=generator.device)
    back = _on_both_axes(resamplers[which], images)
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
    """Show some faces as a JPEG file of quality 25 to 90 keeps them."""
    quality = torch.floor(25 + 65 * _uniform(generator, len(images)))
    step = _quantisation(quality)[:, None, None]  # (B, 1, 1, 8, 8)
    cosines = _cosines(images.device)
    blocks = (torch.round(images[:, 0] * 255) - 128).unfold(1, 8, 8).unfold(2, 8, 8)  # (B, 6, 6, 8, 8)
    coarse = torch.round(cosines @ blocks @ cosines.T / step) * step
    pixels = torch.round(cosines.T @ coarse @ cosines + 128).clamp(0, 255)
    decoded = pixels.transpose(2, 3).reshape(images.shape) / 255
    return torch.where(_chosen(images, share, generator), decoded, images)


def random_grid(images: Tensor, share: float, generator: Generator) -> Tensor:
    """Blank a grid of squares in some faces: a period of 8 to 16 pixels, half of it covered."""
    side, count = images.shape[-1], len(images)
    period = torch.randint(8, 17, (count, 1), generator=generator, device=generator.device)
    start = (_uniform(generator, 2, count, 1) * period).int()
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
    """Mix some faces (B, C, 48, 48) and their targets (B, 7) with another's: whole, or by a rectangle."""
    count = len(images)
    partner = torch.randperm(count, generator=generator, device=generator.device)
    # Beta(1, 1) folded: the face itself keeps at least half.
    amount = 0.5 * _uniform(generator, count)
    inside = _rectangles(amount, images.shape[-1], generator)
    cut = _chosen(images, strength.cut, generator)
    weight = torch.where(cut, inside[:, None].float(), amount[:, None, None, None])  # (B, 1, side, side)
    weight = weight * _chosen(images, strength.mixed, generator)
    return (
        images.lerp(images[partner], weight),
        targets.lerp(targets[partner], weight.mean(dim=(2, 3)).expand_as(targets)),
    )


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


def _on_both_axes(matrices: Tensor, images: Tensor) -> Tensor:
    """Apply each face's matrix (B, side, side) to its columns and to its rows."""
    return (matrices @ images[:, 0] @ matrices.transpose(1, 2))[:, None]


@cache
def _resamplers(side: int, smallest: int, device: torch.device) -> Tensor:
    """(sizes, side, side): what shrinking an axis to each smaller size and enlarging it again does to it."""
    unit = torch.eye(side, device=device)[:, None]
    shrunk = [F.interpolate(unit, size=smaller, mode="area") for smaller in range(smallest, side)]
    back = [F.interpolate(small, size=side, mode="linear", align_corners=False) for small in shrunk]
    return torch.stack(back)[:, :, 0].transpose(1, 2)


@cache
def _cosines(device: torch.device) -> Tensor:
    """The orthonormal 8x8 cosine transform (ITU-T T.81, A.3.3)."""
    frequency, position = torch.arange(8.0, device=device)[:, None], torch.arange(8.0, device=device)
    rows = torch.cos((2 * position + 1) * frequency * math.pi / 16) / 2
    rows[0] /= math.sqrt(2)
    return rows


@cache
def _luminance(device: torch.device) -> Tensor:
    return torch.tensor(LUMINANCE, device=device)


def _quantisation(quality: Tensor) -> Tensor:
    """Qualities (B,), 1 to 100 -> luminance steps (B, 8, 8): ITU-T T.81, table K.1, scaled like libjpeg."""
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)[:, None, None]
    table = _luminance(quality.device)
    return torch.floor((table * scale + 50) / 100).clamp(1, 255)


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
