"""Train one network: `python -m training.train --preset balanced --data fer2013.csv --run runs/balanced`.

`--set name=value` changes any setting of the preset: `--set votes=0 --set augmentation.jpeg=0.3`.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from training.arguments import parser_of_data, positive, told
from training.begin import digest
from training.config import Config, ConfigError, override
from training.data import load
from training.distill import Distillation
from training.engine import train
from training.recipe import PRESETS
from training.targets import need_votes


def main() -> None:
    """Parse the command line and train; a run that exists goes on from its checkpoint."""
    parser = parser_of_data(__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="balanced")
    parser.add_argument("--run", type=Path, required=True, help="folder of this run")
    parser.add_argument("--epochs", type=positive)
    parser.add_argument("--views", help="name of the folder of views beside this run, to learn from")
    parser.add_argument("--begin-with", type=Path, help="run or exported graph to train on")
    parser.add_argument(
        "--resize",
        action="store_true",
        help="where --begin-with has other widths or more units: take what fits",
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="settings")
    parser.add_argument("--images", type=positive, help="only so many, for a rehearsal")
    parser.add_argument("--threads", type=positive, help="CPU threads (default: all)")
    run(parser.parse_args())


def run(arguments: argparse.Namespace) -> None:
    """Train what the command line asks for; a mistake in it ends with one sentence."""
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    with told("train", resumes=True):
        config = configure(arguments)
        faces = load(arguments.data, "train", arguments.ferplus).first(arguments.images)
        need_votes(config, faces)
        train(config, faces, arguments.run, arguments.begin_with, resized=arguments.resize)


def configure(arguments: argparse.Namespace) -> Config:
    """The preset with what the command line changes."""
    config = PRESETS[arguments.preset]
    if arguments.views is not None:
        # How much of the loss, and how softened, stays as the preset has it.
        taught = config.distillation or Distillation(arguments.views)
        config = replace(config, distillation=replace(taught, views=arguments.views))
    if arguments.begin_with is not None:
        config = replace(config, begun_with=digest(arguments.begin_with))
    elif arguments.resize:
        raise ConfigError("--resize needs --begin-with: what shall be resized?")
    epochs = [] if arguments.epochs is None else [f"epochs={arguments.epochs}"]
    return override(config, [*arguments.settings, *epochs])


if __name__ == "__main__":
    main()
