"""What the training commands have in common: the data, numbers, and mistakes told in one sentence."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.config import ConfigError
from training.data import DataError
from training.manifest import StoreError


def parser_of_data(about: str | None) -> argparse.ArgumentParser:
    """The command line of a module with this docstring, which reads FER2013."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="fer2013.csv, contact sheets or image folders"
    )
    parser.add_argument("--ferplus", type=Path, help="FER+ votes (fer2013new.csv) for a Kaggle file")
    return parser


def positive(text: str) -> int:
    """A whole number from 1 on, as argparse's `type`."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return number


@contextmanager
def told(command: str, *, resumes: bool = False) -> Iterator[None]:
    """End the command with one sentence for wrong data, settings, stores or folders, or an interruption.

    resumes: the same command goes on where it was interrupted.
    """
    try:
        yield
    except (ConfigError, DataError, StoreError) as error:
        raise SystemExit(f"{command}: {error}") from error
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        raise SystemExit(f"{command}: {place}{error.strerror or error}") from error
    except KeyboardInterrupt:
        rest = "; the same command goes on where it was last saved" if resumes else ""
        print(f"{command}: interrupted{rest}", file=sys.stderr)
        raise SystemExit(130) from None
