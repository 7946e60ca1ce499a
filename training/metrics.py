"""Figures of a classifier, from its probabilities (N, 7) and what people called the faces."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.vision.types import EMOTIONS, LabelSet
from training.data import Faces
from training.label_sets import FER2013, FERPLUS, judged, shares, truth, voters

BINS = 15
Floats = NDArray[np.floating]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Report:
    """What a model card states. `recall` and `count` are by emotion; ECE values are shares, not percent.

    label_set: whose word is taken for the truth, everywhere but in the two accuracies that name theirs.
    ece_if_perfect: what a perfectly calibrated model of the same confidences would score on as many images.
    confusion: (7, 7) counts, true emotion by row.
    certain_share, certain_accuracy: coverage and accuracy where the answer is not flagged uncertain.
    """

    label_set: LabelSet
    images: int
    accuracy: float
    recall: Mapping[str, float]
    count: Mapping[str, int]
    macro_f1: float
    ece: float
    ece_if_perfect: float
    certain_share: float
    certain_accuracy: float
    fer2013_accuracy: float
    ferplus_images: int
    ferplus_accuracy: float
    confusion: Labels

    def figures(self) -> dict[str, float]:
        """The figures the manifest carries; with two places more than tables show, which round them again."""
        prefix = public(self.label_set)
        found = {
            "fer2013_public_accuracy": round(self.fer2013_accuracy, 6),
            f"{prefix}_macro_f1": round(self.macro_f1, 6),
            **{f"{prefix}_{name}_recall": round(self.recall[name], 6) for name in EMOTIONS},
            **{f"{prefix}_{name}_images": float(self.count[name]) for name in EMOTIONS},
            **dict(self._worst_mistake(index) for index in range(len(EMOTIONS))),
            f"{prefix}_ece": round(self.ece, 6),
            f"{prefix}_ece_if_perfect": round(self.ece_if_perfect, 6),
            "ferplus_public_accuracy": round(self.ferplus_accuracy, 6),
            "ferplus_public_images": float(self.ferplus_images),
            "certain_share": round(self.certain_share, 6),
            "certain_accuracy": round(self.certain_accuracy, 6),
        }
        # JSON has no NaN: what could not be measured (FER+ without votes) is left out.
        return {name: value for name, value in found.items() if not math.isnan(value)}

    def text(self) -> str:
        """A table for people."""
        lines = [f"{'images':<22}{self.images}, by {self.label_set}"]
        lines += [f"{'accuracy':<22}{self.accuracy:.2%}"]
        lines += [f"  recall {name:<13}{self._recall(name)}" for name in EMOTIONS]
        lines += [
            f"{'macro F1':<22}{self.macro_f1:.4f}",
            f"{'ECE (15 bins)':<22}{self.ece:.2%}; perfectly calibrated: {self.ece_if_perfect:.2%}",
            f"{'not uncertain':<22}{self.certain_share:.1%}, right {percent(self.certain_accuracy)}",
            f"{'FER2013 labels':<22}{self.fer2013_accuracy:.2%}",
            f"{'FER+ majority':<22}{percent(self.ferplus_accuracy)}; {self.ferplus_images} images",
        ]
        return "\n".join(lines)

    def _worst_mistake(self, emotion: int) -> tuple[str, float]:
        """What an emotion is most often mistaken for, and the share of its faces to which that happens."""
        row = self.confusion[emotion].copy()
        total, row[emotion] = max(row.sum(), 1), -1
        other = int(row.argmax())
        name = f"{public(self.label_set)}_{EMOTIONS[emotion]}_taken_for_{EMOTIONS[other]}"
        return name, round(float(row[other] / total), 6)

    def _recall(self, name: str) -> str:
        low, high = wilson_interval(round(self.recall[name] * self.count[name]), self.count[name])
        return f"{self.recall[name]:.2%} of {self.count[name]}; 95 % interval {low:.1%} to {high:.1%}"


def percent(share: float) -> str:
    """A share for people; not a number where there was nothing to measure."""
    return "not measured" if math.isnan(share) else f"{share:.2%}"


def public(label_set: LabelSet) -> str:
    """How names of figures begin that are measured on the public test split, by this label set."""
    return f"{label_set}_public"


def report(
    probabilities: Floats, faces: Faces, uncertain_below: float, label_set: LabelSet = FER2013
) -> Report:
    """All figures of a classifier's probabilities (N, 7) for these faces.

    Raises DataError where the label set says nothing of any of them.
    """
    called = {known: truth(faces, known) for known in (FER2013, FERPLUS)}
    by_set = {known: _accuracy(probabilities, names) for known, names in called.items()}
    probabilities, faces = probabilities[called[label_set] >= 0], judged(faces, label_set)
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    right, certain = predicted == faces.labels, confidence >= uncertain_below
    agreed = shares(faces, label_set)[np.arange(len(faces)), predicted]
    confusion = confusion_matrix(predicted, faces.labels)
    hits, answers, counts = confusion.diagonal(), confusion.sum(0), confusion.sum(1)
    recall, f1 = hits / np.maximum(counts, 1), 2 * hits / np.maximum(answers + counts, 1)
    return Report(
        label_set=label_set,
        images=len(faces),
        accuracy=float(right.mean()),
        recall=dict(zip(EMOTIONS, recall.tolist(), strict=True)),
        count=dict(zip(EMOTIONS, counts.tolist(), strict=True)),
        macro_f1=float(f1.mean()),
        ece=calibration_error(confidence, agreed),
        ece_if_perfect=expected_calibration_error(confidence, voters(faces, label_set)),
        certain_share=float(certain.mean()),
        certain_accuracy=float(right[certain].mean()) if certain.any() else float("nan"),
        fer2013_accuracy=by_set[FER2013],
        ferplus_images=int((called[FERPLUS] >= 0).sum()),
        ferplus_accuracy=by_set[FERPLUS],
        confusion=confusion,
    )


def _accuracy(probabilities: Floats, called: Labels) -> float:
    """Of the faces that are called something (>= 0); no number where there is none."""
    some = called >= 0
    return float((probabilities.argmax(1) == called)[some].mean()) if some.any() else float("nan")


def calibration_error(confidence: Floats, agreed: NDArray[Any]) -> float:
    """Expected calibration error over 15 equal-width bins (Guo et al., 2017, equation 3).

    agreed: (N,) the share of people who call the face what the model does; 0 or 1 where one was asked.
    """
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=agreed - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def expected_calibration_error(confidence: Floats, voters: Labels, draws: int = 200, seed: int = 0) -> float:
    """The calibration error to expect by chance alone, were every confidence exactly right.

    voters: (N,) how many are asked of each face, each by himself.
    """
    random, asked = np.random.default_rng(seed), np.arange(voters.max())[:, None] < voters

    def agreed() -> Floats:
        votes = asked & (random.random(asked.shape) < confidence)
        shares: Floats = votes.sum(axis=0) / voters
        return shares

    return float(np.mean([calibration_error(confidence, agreed()) for _ in range(draws)]))


def confusion_matrix(predicted: Labels, labels: Labels) -> Labels:
    """(7, 7) counts: row the true emotion, column the answer."""
    size = len(EMOTIONS)
    return np.bincount(labels * size + predicted, minlength=size * size).reshape(size, size)


def wilson_interval(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927), which holds for the few images of a rare emotion too."""
    if count == 0:
        return 0.0, 1.0
    share, spread = hits / count, z * z / count
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(centre - half, 0.0), min(centre + half, 1.0)
