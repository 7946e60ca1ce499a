"""Views in their folder: the files, what they come from, and whether a run can learn from them."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from training.config import Config, ConfigError, from_saved
from training.files import write_text
from training.saved import CONFIG, readable, save_tensors

SOURCE = "source.json"


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
    with readable(path, "move it away, and repeat the command that wrote the views"):
        return View(**torch.load(path, map_location=device, weights_only=True))


def save_view(view: View, path: Path) -> None:
    """Write one view."""
    save_tensors(vars(view), path)


def described(folder: Path) -> tuple[Config, dict[str, str]]:
    """What a folder's views were drawn by, and what they come from; the latter is empty for older ones."""
    cure = "write the views again, in another folder"
    with readable(folder / CONFIG, cure):
        config = from_saved(json.loads((folder / CONFIG).read_text()))
    with readable(folder / SOURCE, cure):
        return config, load_source(folder)


def find_views(
    folder: Path, config: Config, images: str, targets: Tensor
) -> tuple[list[Path], dict[str, str]]:
    """The views in a folder, and what they come from, for a run of this config on these targets.

    images: the fingerprint of the run's. Raises ConfigError where there are no views, or none of its images.
    """
    paths = view_paths(folder)
    if not paths:
        raise ConfigError(f"{folder} holds no views: write some by training.views, or pass other --views")
    views, source = described(folder)
    if (views.held_out, views.seed) != (config.held_out, config.seed):
        raise ConfigError(f"{folder} was written with another held_out or seed than this run has")
    view = load_view(paths[0], targets.device)
    same = source.get("images", images) == images
    if not same or {view.targets.shape, view.taught.shape} != {targets.shape}:
        raise ConfigError(f"{folder} was written for other images, or another number of heads")
    # Another view would be shown in an epoch, so a run whose views grew meanwhile would end elsewhere.
    return paths, source | {"views": str(len(paths))}
