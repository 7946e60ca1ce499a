"""Learning from teachers: the student sees a picture, the teachers see the very same picture.

Beyer et al., "Knowledge distillation: A good teacher is patient and consistent" (CVPR 2022). The teachers
know the training images by heart, so what they say of an image as published is little more than its label;
what they say of an augmented or mixed one is not. They therefore run on every batch instead of once per
image: a forward pass in bfloat16 each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Distillation:
    """teachers: folders of their runs, beside the student's own; weight: their share of the loss.

    temperature: what logits of both sides are divided by, to bring out the unlikely emotions.
    """

    teachers: tuple[str, ...]
    weight: float = 0.7
    temperature: float = 2.0


class Teachers(nn.Module):
    """The mean opinion of several networks. (B, 1, H, W) in -1..1 -> probabilities (B, 7)."""

    def __init__(self, networks: Sequence[nn.Module], temperature: float) -> None:
        super().__init__()
        self.networks, self.temperature = nn.ModuleList(networks), temperature

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            logits = torch.stack([network(images) for network in self.networks])
        return (logits.float() / self.temperature).softmax(2).mean(0)


def distillation_loss(logits: Tensor, targets: Tensor, taught: Tensor, config: Distillation) -> Tensor:
    """Cross entropy with the targets (B, 7), mixed with the divergence from what is taught (B, 7).

    The divergence is multiplied by the temperature squared, which keeps the two gradients in proportion
    (Hinton et al., 2015, section 2).
    """
    softened = F.log_softmax(logits / config.temperature, 1)
    divergence = F.kl_div(softened, taught, reduction="batchmean") * config.temperature**2
    return (1 - config.weight) * F.cross_entropy(logits, targets) + config.weight * divergence
