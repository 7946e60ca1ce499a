"""Made-up faces and a network small enough to train in a test."""

from dataclasses import replace

import numpy as np

from training.config import Config
from training.data import Faces
from training.presets import Augmentation
from training.shufflenet import Architecture

TINY = Architecture(stages=(8, 16), repeats=(1, 2), stem=4, head=16, dropout=0.2)
STILL = Augmentation(0, 0, 0, 0, 0, resampled=0, erased=0)
CONFIG = Config(
    architecture=TINY, augmentation=STILL, epochs=2, batch=16, warmup_epochs=0, held_out=0.25, votes=0
)


def config(**changes: object) -> Config:
    return replace(CONFIG, **changes)  # type: ignore[arg-type]


def faces(count: int = 56) -> Faces:
    """Each label is a bar of its own height on noise: easy to learn."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % 7
    images = random.integers(0, 60, (count, 48, 48)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[6 * label : 6 * label + 6] += 180
    return Faces(images, labels.astype(np.int64), np.full((count, 10), np.nan, np.float32))
