import json
from pathlib import Path

import numpy as np

from training import card, manifest
from training.data import Faces
from training.evaluate import STORE
from training.metrics import report

from .helpers import faces

PAGE = "# Title\n<!-- {0} -->\nold\n<!-- /{0} -->\ntail\n"


def store(folder: Path) -> Path:
    some: Faces = faces()
    probabilities = np.full((len(some), 7), 0.05)
    probabilities[np.arange(len(some)), np.maximum(some.labels, 1)] = (
        0.7  # every angry face is called disgusted
    )
    found = report(probabilities, some, uncertain_below=0.5)
    entry = {"file": "emotion/tiny.onnx", "sha256": "ab", "bytes": 1234567, "version": "1"}
    entry |= {"label_set": found.label_set}
    entry |= {"provenance": {"command": "make train"}, "uncertain_below": 0.5, "measured": found.figures()}
    (folder / "store").mkdir()
    (folder / "store" / "manifest.json").write_text(json.dumps({"emotion": {"tiny": entry}}))
    return folder / "store"


def test_pages_get_the_manifest_s_figures_and_keep_their_text(tmp_path: Path) -> None:
    where = store(tmp_path)
    (where / "MODEL_CARD.md").write_text(PAGE.format("figures"))
    (tmp_path / "README.md").write_text(PAGE.format("summary") + "see [card](store/MODEL_CARD.md)\n")
    assert card.refresh(where, check=True) == [where / "MODEL_CARD.md", tmp_path / "README.md"]
    assert "old" in (tmp_path / "README.md").read_text()
    card.refresh(where)
    assert card.refresh(where, check=True) == []
    text, readme = (where / "MODEL_CARD.md").read_text(), (tmp_path / "README.md").read_text()
    assert "| `tiny` | 1,234,567 bytes | 85.71% |" in text
    assert "| `tiny` | 1,234,567 bytes | 85.71% |" in readme
    assert "| angry | 8 | 0.0% | 0.0% to 32.4% | disgust (100.0%) |" in text
    assert text.startswith("# Title\n")
    assert text.endswith("\ntail\n")


def test_a_page_without_the_markers_is_left_alone(tmp_path: Path) -> None:
    where = store(tmp_path)
    (tmp_path / "README.md").write_text("nothing here\n")
    assert card.refresh(where) == []
    assert (tmp_path / "README.md").read_text() == "nothing here\n"


def test_a_copy_of_a_store_leaves_the_readme_of_the_other_alone(tmp_path: Path) -> None:
    where = store(tmp_path)
    (tmp_path / "README.md").write_text(PAGE.format("summary") + "see [card](model_store/MODEL_CARD.md)\n")
    assert card.refresh(where, check=True) == []


def test_a_graph_that_training_did_not_measure_is_passed_over(tmp_path: Path) -> None:
    where = store(tmp_path)
    (where / "MODEL_CARD.md").write_text(PAGE.format("figures"))
    manifest.update(where, "emotion", {"own": {"file": "a"}, "other": {"file": "b", "measured": {"f1": 0.5}}})
    card.refresh(where)
    text = (where / "MODEL_CARD.md").read_text()
    assert "`tiny`" in text
    assert "`own`" not in text
    assert "`other`" not in text


def test_the_committed_pages_agree_with_the_manifest() -> None:
    assert card.refresh(STORE, check=True) == []
