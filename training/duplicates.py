"""What figures on the public test split owe to images that the training split has, too.

`python -m training.duplicates --data fer2013.csv`

FER2013 was collected by image search and has many images twice, also in both splits, pixel by pixel.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training import manifest
from training.arguments import parser_of_data, told
from training.data import Faces, load
from training.evaluate import STORE, probabilities
from training.label_sets import FER2013
from training.metrics import Report, percent, report


def among(faces: Faces, others: Faces) -> NDArray[np.bool_]:
    """(N,) which of the faces are, pixel by pixel, among the others."""
    known = {image.tobytes() for image in others.images}
    return np.array([image.tobytes() in known for image in faces.images], np.bool_)


def without(faces: Faces, others: Faces) -> Faces:
    """Those of the faces that are not among the others."""
    return faces.subset(np.flatnonzero(~among(faces, others)))


def table(store: Path, public: Faces, known: NDArray[np.bool_]) -> str:
    """The figures of all graphs that answer by FER2013's labels: on all images, and on either part."""
    parts = {
        "all": np.arange(len(public)),
        "known": np.flatnonzero(known),
        "new": np.flatnonzero(~known),
    }
    lines = [
        f"{len(parts['known'])} of {len(public)} images of the public test split are in the training split"
    ]
    lines += [f"{'graph':<16}{'images':<8}{'accuracy':>10}{'macro F1':>10}{'ECE':>8}{'FER+':>14}"]
    for name, entry in manifest.models(store).items():
        if entry["label_set"] != FER2013:
            continue
        answers = probabilities(store / entry["file"], public.images)
        for part, index in parts.items():
            if not len(index):
                continue
            found = report(answers[index], public.subset(index), entry["uncertain_below"], FER2013)
            lines += [f"{name:<16}{part:<8}{_figures(found)}"]
    return "\n".join(lines)


def _figures(found: Report) -> str:
    ferplus = percent(found.ferplus_accuracy)
    return f"{found.accuracy:>10.2%}{found.macro_f1:>10.3f}{found.ece:>8.2%}{ferplus:>14}"


def main() -> None:
    """Parse the command line and print the table."""
    parser = parser_of_data(__doc__)
    parser.add_argument("--store", type=Path, default=STORE)
    arguments = parser.parse_args()
    with told("duplicates"):
        public, learned = (
            load(arguments.data, split, arguments.ferplus) for split in ("public_test", "train")
        )
        print(table(arguments.store, public, among(public, learned)))


if __name__ == "__main__":
    main()
