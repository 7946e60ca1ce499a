"""Record what PyTorch answers to a few fixed crops, so that a test can hold the committed graph to it.

`python -m training.record_golden --variant balanced --data fer2013.csv --run runs/balanced`

The data are what the runs were trained on.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch

from service.vision.types import UInt8Array
from training import manifest
from training.arguments import parser_of_data, told
from training.data import SIDE, load
from training.evaluate import STORE
from training.export import add_source, compare, served_network, source_of
from training.serving import Serving

ROOT = Path(__file__).parents[1]
PHOTO = ROOT / "tests" / "data" / "astronaut.jpg"
GOLDEN = ROOT / "tests" / "training" / "golden"
# left, top and side of squares around the face of the portrait, in pixels
SQUARES = ((160, 60, 130), (170, 75, 110), (150, 50, 150), (180, 80, 96))


def golden_inputs(photo: Path) -> UInt8Array:
    """(16, 48, 48): the portrait's face in four framings, mirrored too, and eight images of noise."""
    gray = np.asarray(cv2.imread(str(photo), cv2.IMREAD_GRAYSCALE), np.uint8)
    faces = [
        cv2.resize(gray[top : top + side, left : left + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        for left, top, side in SQUARES
    ]
    noise = np.random.default_rng(0).integers(0, 256, (8, SIDE, SIDE), np.uint8)
    return np.concatenate([np.stack(faces), np.stack(faces)[:, :, ::-1], noise]).astype(np.uint8)


def main() -> None:
    """Parse the command line, compare PyTorch with the store's graph, and write the recording."""
    parser = parser_of_data(__doc__)
    parser.add_argument("--variant", default="balanced")
    add_source(parser)
    parser.add_argument("--store", type=Path, default=STORE)
    parser.add_argument("--out", type=Path, default=GOLDEN)
    with told("record_golden"):
        record(parser.parse_args())


def record(arguments: argparse.Namespace) -> None:
    """Write what PyTorch answers for a graph of the store, where the two agree."""
    entry = manifest.model(arguments.store, arguments.variant)
    serving = Serving.recorded(entry["provenance"])
    learned = load(arguments.data, "train", arguments.ferplus)
    served, _ = served_network(source_of(arguments), learned, serving)
    crops = golden_inputs(PHOTO)
    difference = compare(served, arguments.store / entry["file"], crops)
    with torch.no_grad():
        probabilities = served(torch.from_numpy(crops)[:, None]).numpy()
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"{arguments.variant}.npz"
    np.savez_compressed(path, crops=crops, probabilities=probabilities, sha256=entry["sha256"])
    print(f"{path}: {len(crops)} crops, the graph differs by at most {difference:.1e}")


if __name__ == "__main__":
    main()
