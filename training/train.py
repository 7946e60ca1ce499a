"""Train one variant: `python -m training.train --variant balanced --data fer2013.csv --run runs/balanced`."""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from training.data import load
from training.engine import Config, train
from training.shufflenet import Architecture

VARIANTS = {"balanced": Config(architecture=Architecture())}


def main() -> None:
    """Parse the command line and train; a run that exists goes on from its checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", choices=VARIANTS, default="balanced")
    parser.add_argument(
        "--data", type=Path, required=True, help="fer2013.csv, contact sheets or image folders"
    )
    parser.add_argument("--ferplus", type=Path, help="FER+ votes (fer2013new.csv) for a Kaggle file")
    parser.add_argument("--run", type=Path, required=True, help="folder of this run")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    config = VARIANTS[arguments.variant]
    if arguments.epochs:
        config = replace(config, epochs=arguments.epochs)
    train(config, load(arguments.data, "train", arguments.ferplus), arguments.run)


if __name__ == "__main__":
    main()
