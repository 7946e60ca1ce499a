"""Train one network: `python -m training.train --preset balanced --data fer2013.csv --run runs/balanced`.

`--set name=value` changes any setting of the preset: `--set votes=0 --set augmentation.jpeg=0.3`.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from training.begin import digest
from training.config import Config, ConfigError, override
from training.data import DataError, load
from training.distill import Distillation
from training.engine import train
from training.presets import PAPER, ROBUST, Augmentation
from training.shufflenet import Architecture
from training.teachers import DenseArchitecture

MILD = Augmentation(scale=0.12, shift=0.06, erased=0.2, resampled=0.2, blurred=0.1, jpeg=0.1, noise=0.02)
# A teacher, dense: bfloat16 pays even on a CPU.
TEACHER = Config(
    augmentation=Augmentation(blurred=0.1, jpeg=0.1, noise=0.02, mixed=0.4),
    epochs=42,
    batch=256,
    learning_rate=0.1,
    warmup_epochs=3,
    smoothing=0.05,
    average_decay=0.998,
    precision="bfloat16",
)
# A student, for `--views`: small networks lack capacity, not data, so they drop nothing out.
STUDENT = Config(
    batch=256, learning_rate=0.2, warmup_epochs=4, weight_decay=3e-4, smoothing=0.05, augmentation=MILD
)
# The students' architectures. The first stage, at 24x24, costs most and is kept narrow.
ARCHITECTURES = {
    "fast": Architecture((24, 80, 304), (1, 3, 4), stem=8, head=384, stem_stride=1, dropout=0.0),
    "balanced": Architecture((64, 192, 448), (2, 6, 6), stem=16, head=704, stem_stride=1, dropout=0.0),
    "accurate": Architecture((176, 352, 704), (4, 8, 4), head=1024, stem_stride=1, dropout=0.0),
}
EPOCHS = {"fast": 133, "balanced": 92, "accurate": 85}
# What a student still learns from the labels alone, after its teachers.
FINISH = Config(augmentation=MILD, batch=64, learning_rate=0.02, warmup_epochs=1, smoothing=0.05)
FINISH_EPOCHS = {"fast": 30, "balanced": 12, "accurate": 12}

PRESETS = {
    # The paper: 50 epochs, one-hot labels, 20 % held for validation, classes balanced by augmentation.
    "paper": Config(
        augmentation=PAPER, epochs=50, smoothing=0.0, votes=0.0, held_out=0.2, balanced_classes=True
    ),
    # The paper's network, trained without teachers; what the ablations change one thing of.
    "plain": Config(epochs=54),
    "robust": Config(augmentation=ROBUST, epochs=54),
    "vgg": replace(TEACHER, dense=DenseArchitecture("vgg", 64)),
    "resnet": replace(TEACHER, dense=DenseArchitecture("resnet", 64), learning_rate=0.15),
    **{
        name: replace(STUDENT, architecture=found, epochs=EPOCHS[name])
        for name, found in ARCHITECTURES.items()
    },
    **{
        f"{name}-finish": replace(FINISH, architecture=found, epochs=FINISH_EPOCHS[name])
        for name, found in ARCHITECTURES.items()
    },
}


def main() -> None:
    """Parse the command line and train; a run that exists goes on from its checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="balanced")
    parser.add_argument(
        "--data", type=Path, required=True, help="fer2013.csv, contact sheets or image folders"
    )
    parser.add_argument("--ferplus", type=Path, help="FER+ votes (fer2013new.csv) for a Kaggle file")
    parser.add_argument("--run", type=Path, required=True, help="folder of this run")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--views", help="name of the folder of views beside this run, to learn from")
    parser.add_argument("--begin-with", type=Path, help="run or exported graph to train on")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="settings")
    parser.add_argument("--images", type=int, help="only so many, for a rehearsal")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    run(parser.parse_args())


def run(arguments: argparse.Namespace) -> None:
    """Train what the command line asks for; a mistake in it ends with one sentence."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        faces = load(arguments.data, "train", arguments.ferplus)
        train(configure(arguments), faces.first(arguments.images), arguments.run, arguments.begin_with)
    except (ConfigError, DataError, FileNotFoundError) as error:
        raise SystemExit(f"train: {error}") from error


def configure(arguments: argparse.Namespace) -> Config:
    """The preset with what the command line changes."""
    config = PRESETS[arguments.preset]
    if arguments.views:
        config = replace(config, distillation=Distillation(arguments.views))
    if arguments.begin_with:
        config = replace(config, begun_with=digest(arguments.begin_with))
    config = override(config, arguments.settings)
    return replace(config, epochs=arguments.epochs) if arguments.epochs else config


if __name__ == "__main__":
    main()
