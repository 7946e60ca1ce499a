"""Learning from teachers: they say once what they see in many augmented epochs, and students learn from that.

Beyer et al., "Knowledge distillation: A good teacher is patient and consistent" (CVPR 2022): student and
teachers must see the very same picture, augmented and mixed, and for long. Teachers know the training images
by heart, so what they say of an image as published is little more than its label. A view is one augmented
epoch, stored with what the teachers say of each picture in it; students go round the views. Teachers then
cost a few dozen epochs of forward passes, however many students there are and however long they learn.
"""

from dataclasses import dataclass

from torch import Tensor

from training.heads import divergence


@dataclass(frozen=True)
class Distillation:
    """views: their folder, beside the student's own; weight: share of the loss that teachers have.

    temperature: what logits of both sides are divided by, to bring out the unlikely emotions.
    """

    views: str
    weight: float = 0.8
    temperature: float = 2.0


def distillation_loss(
    loss: Tensor, logits: Tensor, taught: Tensor, votes: float, config: Distillation
) -> Tensor:
    """The loss on the targets, mixed with the divergence of the logits from the log-probabilities taught.

    The divergence is multiplied by the temperature squared, which keeps the two gradients in proportion
    (Hinton et al., 2015, section 2).
    """
    apart = divergence(logits, taught, config.temperature, votes) * config.temperature**2
    return (1 - config.weight) * loss + config.weight * apart
