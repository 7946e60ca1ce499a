"""Learning from teachers: they say once what they see in many augmented epochs, and students learn from that.

Beyer et al., "Knowledge distillation: A good teacher is patient and consistent" (CVPR 2022): student and
teachers must see the very same picture, augmented and mixed, and for long. Teachers know the training images
by heart, so what they say of an image as published is little more than its label. A view is one augmented
epoch, stored with what the teachers say of each picture in it; students go round the views. Teachers then
cost a few dozen epochs of forward passes, however many students there are and however long they learn.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.files import aside, write_text
from training.heads import divergence

SOURCE = "source.json"


@dataclass(frozen=True)
class Distillation:
    """views: their folder, beside the student's own; weight: share of the loss that teachers have.

    temperature: what logits of both sides are divided by, to bring out the unlikely emotions.
    """

    views: str
    weight: float = 0.8
    temperature: float = 2.0


@dataclass(frozen=True)
class View:
    """One augmented epoch, in the order of the images.

    images: (N, 1, 48, 48) uint8; targets: (N, 7 or 14) float16; taught: (N, 7 or 14) float16, the mean of the
    teachers' log-probabilities, each head apart.
    """

    images: Tensor
    targets: Tensor
    taught: Tensor


def view_paths(folder: Path) -> list[Path]:
    """The files of the views in a folder, in order."""
    return sorted(folder.glob("view-*.pt"))


def save_source(source: dict[str, str], folder: Path) -> None:
    """Write down what the views of a folder come from: `images`, `teachers`, `detector`, each as a sha256."""
    write_text(folder / SOURCE, json.dumps(source, indent=2) + "\n")


def load_source(folder: Path) -> dict[str, str]:
    """What the views of a folder come from; nothing where they are older than that is written down."""
    path = folder / SOURCE
    return dict(json.loads(path.read_text())) if path.exists() else {}


def load_view(path: Path, device: torch.device) -> View:
    """Read one view onto a device."""
    return View(**torch.load(path, map_location=device, weights_only=True))


def save_view(view: View, path: Path) -> None:
    """Write one view."""
    save_tensors(vars(view), path)


def save_tensors(state: Mapping[str, Any], path: Path) -> None:
    """Write what PyTorch can read back. Raises OSError where there is no room for it."""
    # By way of memory: what PyTorch itself raises on a full disk tells of its own code alone.
    written = BytesIO()
    torch.save(state, written)
    with aside(path) as temporary:
        temporary.write_bytes(written.getbuffer())


def distillation_loss(
    loss: Tensor, logits: Tensor, taught: Tensor, votes: float, config: Distillation
) -> Tensor:
    """The loss on the targets, mixed with the divergence of the logits from the log-probabilities taught.

    The divergence is multiplied by the temperature squared, which keeps the two gradients in proportion
    (Hinton et al., 2015, section 2).
    """
    apart = divergence(logits, taught, config.temperature, votes) * config.temperature**2
    return (1 - config.weight) * loss + config.weight * apart
