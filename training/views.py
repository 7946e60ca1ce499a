"""Write views for distillation: augmented epochs with what teachers say of them (see `training.distill`).

`python -m training.views --teachers resnet vgg --data fer2013.csv --run runs/views`

Teachers are runs beside the views. Views that exist already are left alone, so a broken command is resumed
by repeating it; for other teachers, name another folder.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from tqdm import tqdm

from training.config import Config, ConfigError, differences, from_saved, override
from training.data import DataError, Faces, load
from training.distill import View, save_view
from training.engine import compute_device, fit_tensors, load_network, placed, split_held_out
from training.heads import log_probabilities
from training.presets import Augmentation, augment, mix, to_network

BATCH, COUNT = 512, 32
# Stronger than a student takes alone: what teachers say of a face half hidden is not a wrong label.
VIEWS = Config(augmentation=Augmentation(blurred=0.1, jpeg=0.1, noise=0.02, mixed=0.4), smoothing=0.05)


def write_views(
    config: Config, faces: Faces, teachers: Sequence[nn.Module], folder: Path, count: int
) -> None:
    """Write the views of the images that `config` does not hold out."""
    device = compute_device()
    networks = [placed(network, device) for network in teachers]
    images, target = fit_tensors(config, split_held_out(faces, config.held_out, config.seed)[0], device)
    _begin_folder(config, folder)
    for index in tqdm(range(count), desc=folder.name):
        path = folder / f"view-{index:03}.pt"
        if not path.exists():
            generator = Generator(device).manual_seed(config.seed * 10_000 + index)
            save_view(_view(images, target, networks, config.augmentation, generator), path)


def _begin_folder(config: Config, folder: Path) -> None:
    """Write the config down; views that were drawn with another must not stand beside new ones."""
    path = folder / "config.json"
    if path.exists():
        changed = differences(config, from_saved(json.loads(path.read_text())))
        if changed:
            raise ConfigError(f"{folder} was begun with other settings: {', '.join(changed)}")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(config), indent=2) + "\n")


def _view(
    images: Tensor,
    targets: Tensor,
    networks: Sequence[nn.Module],
    strength: Augmentation,
    generator: Generator,
) -> View:
    # Shuffled, so that a face is mixed with any other, and then put back in order.
    order = torch.randperm(len(images), generator=generator, device=generator.device)
    parts = [
        _part(images[index], targets[index], networks, strength, generator)
        for index in torch.split(order, BATCH)
    ]
    joined = [torch.cat(tensors)[order.argsort()].cpu() for tensors in zip(*parts, strict=True)]
    return View(*joined)


@torch.no_grad()
def _part(
    images: Tensor,
    targets: Tensor,
    networks: Sequence[nn.Module],
    strength: Augmentation,
    generator: Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    changed = augment(images.float() / 255, strength, generator)
    changed, targets = mix(changed, targets, strength, generator)
    # Teachers look at the bytes that students will see.
    pixels = (changed * 255).round().byte()
    return pixels, targets.half(), opinion(networks, to_network(pixels.float() / 255)).half()


@torch.no_grad()
def opinion(networks: Sequence[nn.Module], images: Tensor) -> Tensor:
    """The mean of the networks' log-probabilities (B, 7 or 14) for network input (B, 1, H, W)."""
    images = images.contiguous(memory_format=torch.channels_last)
    # On a CPU it pays for dense networks alone, and only where the processor computes in it.
    with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
        logits = torch.stack([network(images) for network in networks])
    return log_probabilities(logits.float()).mean(0)


def main() -> None:
    """Parse the command line and write the views."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--teachers", nargs="+", required=True, help="names of runs beside this one")
    parser.add_argument(
        "--data", type=Path, required=True, help="fer2013.csv, contact sheets or image folders"
    )
    parser.add_argument("--ferplus", type=Path, help="FER+ votes (fer2013new.csv) for a Kaggle file")
    parser.add_argument("--run", type=Path, required=True, help="folder of the views")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="settings")
    parser.add_argument("--images", type=int, help="only so many, for a rehearsal")
    arguments = parser.parse_args()
    try:
        faces = load(arguments.data, "train", arguments.ferplus).first(arguments.images)
        config = override(VIEWS, arguments.settings)
        teachers = [load_network(arguments.run.parent / name) for name in arguments.teachers]
        write_views(config, faces, teachers, arguments.run, arguments.count)
    except (ConfigError, DataError, FileNotFoundError) as error:
        raise SystemExit(f"views: {error}") from error


if __name__ == "__main__":
    main()
