"""How the classifier fares from detector to answer: `python -m training.robustness --data fer2013.csv`.

FER2013 test images are pasted into larger scenes, found by the service's detector, cropped by the service's
crop and classified. A face that is not found counts as wrong. Curves tell how that falls with face size,
blur, rotation and the margin of the crop.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from service.vision.crop import crop_face
from service.vision.emotion import EmotionClassifier
from service.vision.mtcnn import Mtcnn
from service.vision.types import Face, UInt8Array
from training import manifest
from training.arguments import parser_of_data, positive, told
from training.data import SIDE, Faces, load
from training.evaluate import STORE
from training.held_out import divided
from training.label_sets import judged
from training.scenes import Condition, Graph, find, load_detector, scenes

CURVES: dict[str, tuple[Any, ...]] = {
    "side": (16, 20, 24, 32, 48, 64, 96),
    "blur": (0.0, 0.5, 1.0, 1.5, 2.0, 3.0),
    "rotation": (-45, -30, -15, 0, 15, 30, 45),
    "margin": (-0.2, -0.1, 0.0, 0.1, 0.2, 0.4),
}
Progress = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Outcome:
    """found: share of faces that were found; accuracy: share of all faces, found or not, named right."""

    found: float
    accuracy: float


def measure(
    detector: Mtcnn,
    classifier: EmotionClassifier,
    faces: Faces,
    condition: Condition,
    progress: Progress = iter,
) -> Outcome:
    """From scene to answer for every face."""
    crops, labels = [], []
    pictures = zip(scenes(faces.images, condition), faces.labels, strict=True)
    for (image, square), label in progress(pictures):
        face = find(detector, image, square, condition.side)
        if face is not None:
            crops.append(crop_face(image, widened(face, condition.margin)))
            labels.append(label)
    return outcome(classifier, crops, labels, len(faces))


def outcome(classifier: EmotionClassifier, crops: list[UInt8Array], labels: list[int], total: int) -> Outcome:
    """What the crops (48, 48) of the faces that were found, out of a total, are taken for."""
    answers = classifier.classify(np.array(crops, np.uint8).reshape(-1, 1, SIDE, SIDE)).argmax(1)
    return Outcome(len(crops) / total, float((answers == labels).sum()) / total)


def widened(face: Face, margin: float) -> Face:
    """The face with its box grown by this share of its side, about its centre."""
    x1, y1, x2, y2 = face.region
    across, down = margin * (x2 - x1) / 2, margin * (y2 - y1) / 2
    return replace(face, region=(x1 - across, y1 - down, x2 + across, y2 + down))


def conditions() -> list[tuple[str, Condition]]:
    """Every point of every curve."""
    plain = Condition()
    return [(name, replace(plain, **{name: value})) for name, values in CURVES.items() for value in values]


def study(store: Path, model: str, faces: Faces, split: str, curve_images: int) -> dict[str, Any]:
    """The main figure on all faces and the curves on the first `curve_images`, as numbers for a report.

    split: what the faces are called. Right is what the model's label set calls a face.
    """
    entry = manifest.model(store, model)
    faces = judged(faces, entry["label_set"])
    classifier = EmotionClassifier(Graph(store / entry["file"]), entry["uncertain_below"])
    detector = load_detector(store)

    def bar(title: str) -> Progress:
        return lambda items: tqdm(items, desc=title, mininterval=5)

    right = classifier.classify(faces.images[:, None]).argmax(1) == faces.labels
    found = measure(detector, classifier, faces, Condition(), bar("all"))
    some = faces.first(curve_images)
    points = [
        {"curve": name, **asdict(condition)}
        | asdict(measure(detector, classifier, some, condition, bar(f"{name} {getattr(condition, name)}")))
        for name, condition in conditions()
    ]
    return {
        "model": model,
        "sha256": entry["sha256"],
        "split": split,
        "images": len(faces),
        "original_accuracy": float(right.mean()),
        **asdict(found),
        "curve_images": len(some),
        "curve_original_accuracy": float(right[: len(some)].mean()),
        "curves": points,
    }


def text(result: dict[str, Any]) -> str:
    """A table for people."""
    lines = [
        f"{result['model']} on {result['images']} images of the {result['split']}",
        f"{'as published, 48x48':<30}{result['original_accuracy']:.2%}",
        f"{'in a scene, found and cropped':<30}{result['accuracy']:.2%}, {result['found']:.2%} found",
        f"curves, {result['curve_images']} images, {result['curve_original_accuracy']:.2%} as published",
    ]
    lines += [
        f"  {name:<10}{point[name]:>6g}  {point['accuracy']:.2%}, {point['found']:.2%} found"
        for point in result["curves"]
        for name in (point["curve"],)
    ]
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, print the table, and write the numbers for the report."""
    parser = parser_of_data(__doc__)
    parser.add_argument("--model", default="balanced")
    parser.add_argument("--store", type=Path, default=STORE)
    parser.add_argument("--images", type=positive, help="only so many of the split")
    parser.add_argument(
        "--held-out", action="store_true", help="training images that were held out, to choose by"
    )
    parser.add_argument("--curve-images", type=positive, default=1000, help="images behind each point")
    parser.add_argument("--out", type=Path, help="JSON file for training.report")
    arguments = parser.parse_args()
    split = "training split, held out" if arguments.held_out else "public test split"
    with told("robustness"):
        if arguments.held_out:
            provenance = manifest.model(arguments.store, arguments.model)["provenance"]
            faces = divided(arguments.data, arguments.ferplus, provenance)[1]
        else:
            faces = load(arguments.data, "public_test", arguments.ferplus)
        faces = faces.first(arguments.images)
        result = study(arguments.store, arguments.model, faces, split, arguments.curve_images)
        print(text(result))
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
