"""Figures of a classifier, from its probabilities (N, 7) and the true labels (N,)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.vision.types import EMOTIONS
from training.data import Faces, ferplus_majority

BINS = 15
Floats = NDArray[np.floating]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Report:
    """What a model card states. `recall` and `count` are by emotion; ECE values are shares, not percent.

    ece_if_perfect: what a perfectly calibrated model of the same confidences would score on as many images.
    certain_share, certain_accuracy: coverage and accuracy where the answer is not flagged uncertain.
    """

    images: int
    accuracy: float
    recall: Mapping[str, float]
    count: Mapping[str, int]
    macro_f1: float
    ece: float
    ece_if_perfect: float
    certain_share: float
    certain_accuracy: float
    ferplus_images: int
    ferplus_accuracy: float

    def figures(self) -> dict[str, float]:
        """The figures the manifest carries."""
        return {
            "fer2013_public_accuracy": round(self.accuracy, 5),
            "fer2013_public_macro_f1": round(self.macro_f1, 5),
            "fer2013_public_disgust_recall": round(self.recall["disgust"], 5),
            "fer2013_public_ece": round(self.ece, 5),
            "ferplus_public_accuracy": round(self.ferplus_accuracy, 5),
            "certain_share": round(self.certain_share, 5),
            "certain_accuracy": round(self.certain_accuracy, 5),
        }

    def text(self) -> str:
        """A table for people."""
        lines = [f"{'images':<22}{self.images}", f"{'accuracy':<22}{self.accuracy:.2%}"]
        lines += [f"  recall {name:<13}{self.recall[name]:.2%} of {self.count[name]}" for name in EMOTIONS]
        lines += [
            f"{'macro F1':<22}{self.macro_f1:.4f}",
            f"{'ECE (15 bins)':<22}{self.ece:.2%}; perfectly calibrated: {self.ece_if_perfect:.2%}",
            f"{'not uncertain':<22}{self.certain_share:.1%} of faces, {self.certain_accuracy:.2%} right",
            f"{'FER+ majority':<22}{self.ferplus_accuracy:.2%} of {self.ferplus_images}",
        ]
        return "\n".join(lines)


def report(probabilities: Floats, faces: Faces, uncertain_below: float) -> Report:
    """All figures of a classifier's probabilities (N, 7) for these faces."""
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    right = predicted == faces.labels
    certain = confidence >= uncertain_below
    majority = ferplus_majority(faces.votes)
    voted = majority >= 0
    recall, f1 = _recall_and_f1(predicted, faces.labels)
    counts = np.bincount(faces.labels, minlength=len(EMOTIONS))
    return Report(
        images=len(faces),
        accuracy=float(right.mean()),
        recall=dict(zip(EMOTIONS, recall.tolist(), strict=True)),
        count=dict(zip(EMOTIONS, counts.tolist(), strict=True)),
        macro_f1=float(f1.mean()),
        ece=calibration_error(confidence, right),
        ece_if_perfect=expected_calibration_error(confidence),
        certain_share=float(certain.mean()),
        certain_accuracy=float(right[certain].mean()),
        ferplus_images=int(voted.sum()),
        ferplus_accuracy=float((predicted == majority)[voted].mean()) if voted.any() else float("nan"),
    )


def calibration_error(confidence: Floats, right: NDArray[np.bool_]) -> float:
    """Expected calibration error over 15 equal-width bins (Guo et al., 2017, equation 3)."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def expected_calibration_error(confidence: Floats, draws: int = 200, seed: int = 0) -> float:
    """The calibration error to expect by chance alone, were every confidence exactly right."""
    random = np.random.default_rng(seed)
    errors = [
        calibration_error(confidence, random.random(len(confidence)) < confidence) for _ in range(draws)
    ]
    return float(np.mean(errors))


def _recall_and_f1(predicted: Labels, labels: Labels) -> tuple[Floats, Floats]:
    classes = np.arange(len(EMOTIONS))[:, None]
    hit = ((predicted == classes) & (labels == classes)).sum(1)
    found, true = (predicted == classes).sum(1), (labels == classes).sum(1)
    return hit / np.maximum(true, 1), 2 * hit / np.maximum(found + true, 1)
