from pathlib import Path

import cv2
import numpy as np

from training.data import VOTES
from training.evaluate import STORE, evaluate
from training.record_golden import PHOTO, golden_inputs

HEADER = ",".join(["split", "emotion", *(f"votes_{vote.lower()}" for vote in VOTES)])


def test_a_graph_is_measured_on_the_split_that_is_asked_for_by_its_own_label_set(tmp_path: Path) -> None:
    happy, neutral = "0,10,0,0,0,0,0,0,0,0", "10,0,0,0,0,0,0,0,0,0"
    rows = (f"train,sad,{happy}", f"public_test,sad,{happy}", f"public_test,fear,{neutral}")
    (tmp_path / "labels.csv").write_text("\n".join((HEADER, *rows)))
    smile, noise = golden_inputs(PHOTO)[[0, 8]]
    cv2.imwrite(str(tmp_path / "train.png"), smile)
    cv2.imwrite(str(tmp_path / "public_test.png"), np.hstack([smile, noise]))
    found = evaluate(STORE, "ferplus", tmp_path, "public_test")
    assert (found.images, found.accuracy, found.fer2013_accuracy, found.label_set) == (2, 1, 0, "ferplus")
