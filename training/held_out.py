"""What a run learns from the training split, and what it holds out to check and calibrate."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from training.config import Config
from training.data import DataError, Faces, load


def split_held_out(faces: Faces, share: float, seed: int) -> tuple[Faces, Faces]:
    """Split off a random share that training never sees: (rest, held out)."""
    order = np.random.default_rng(seed).permutation(len(faces))
    cut = int(len(faces) * share)
    return faces.subset(order[cut:]), faces.subset(order[:cut])


def division(config: Config, faces: Faces) -> dict[str, str]:
    """How these faces are divided in a run, for the provenance of the graph that it becomes."""
    images = f"sha256:{faces.fingerprint()}"
    return {"images": images, "held_out": str(config.held_out), "seed": str(config.seed)}


def divided(
    data: Path, ferplus: Path | None = None, provenance: Mapping[str, str] | None = None
) -> tuple[Faces, Faces]:
    """The training split as a graph's runs divided it: what they learned from, and what they held out.

    provenance: that of the graph; where it does not tell, the division is the presets'. Raises DataError
    where it tells of other images, of which the graph may have learned any.
    """
    faces = load(data, "train", ferplus)
    known = {**division(Config(), faces), **(provenance or {})}
    if known["images"] != f"sha256:{faces.fingerprint()}":
        raise DataError("the graph learned from other images, labels or votes than the data has")
    return split_held_out(faces, float(known["held_out"]), int(known["seed"]))
