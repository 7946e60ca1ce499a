"""The emotion models beside the classifier of the package `fer`, on the same FER2013 images.

    python -m benchmarks.emotion --data ../shared/data/fer2013 [--peers .venv-peers]

All 48x48 images of the public test split, one forward pass each: the share that is named as FER2013's label
has it, and as the majority of FER+'s voters has it, of the images that have one among the seven emotions. The
last column is about all of them as an audience: how far the mean of the answers is from the mean of the
votes, as half the sum of the differences. The peer is left out where `make peers` has not installed it.
"""

import argparse
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from service.runtime.model_store import ModelStore
from service.vision.emotion import EmotionClassifier
from service.vision.types import Float32Array, UInt8Array
from training.data import DataError, Faces, load, vote_shares
from training.label_sets import FER2013, FERPLUS, judged
from training.metrics import report

PEER = Path(__file__).parent / "peers" / "fer_emotion.py"


def ours(images: UInt8Array) -> Iterator[tuple[str, Float32Array]]:
    """Each model of the store, and its probabilities (N, 7) for images (N, 48, 48)."""
    store = ModelStore.open()
    for name, entry in store.manifest.emotion.items():
        classifier = EmotionClassifier(store.session(entry), entry.uncertain_below)
        yield name, classifier.classify(images[:, None])


def peer(python: Path, images: UInt8Array) -> Float32Array:
    """The same of the peer, under a Python that has it."""
    with TemporaryDirectory() as folder:
        shown, answers = Path(folder) / "images.npy", Path(folder) / "answers.npy"
        np.save(shown, images)
        command = [str(python.absolute()), str(PEER), str(shown), str(answers)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found: Float32Array = np.load(answers)
    return found


def apart(probabilities: Float32Array, faces: Faces) -> float:
    """How far the mean answer is from the mean vote for the seven emotions, 0 to 1."""
    votes = vote_shares(faces.votes)
    voted = votes.any(axis=1)
    return float(np.abs(probabilities[voted].mean(0) - votes[voted].mean(0)).sum() / 2)


def main() -> None:
    """Print a row for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--ferplus", type=Path, help="FER+ votes (fer2013new.csv) for a Kaggle file")
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers"))
    arguments = parser.parse_args()
    try:
        faces = load(arguments.data, "public_test", arguments.ferplus)
        judged(faces, FERPLUS)
    except DataError as error:
        raise SystemExit(f"emotion: {error}") from error
    answers = dict(ours(faces.images))
    python = arguments.peers / "fer" / "bin" / "python"
    if python.exists():
        answers["fer"] = peer(python, faces.images)
    else:
        print("fer is left out: `make peers` has not installed it.")
    print("| classifier | FER2013's labels | macro F1 | FER+'s majority | macro F1 | apart from the votes |")
    print("|---|---|---|---|---|---|")
    for name, probabilities in answers.items():
        found = [report(probabilities, faces, 0.5, judge) for judge in (FER2013, FERPLUS)]
        cells = [f"{each.accuracy:.2%} | {each.macro_f1:.3f}" for each in found]
        print(f"| `{name}` | {' | '.join(cells)} | {apart(probabilities, faces):.3f} |")


if __name__ == "__main__":
    main()
