import json
from pathlib import Path

import torch

from training.begin import digest
from training.distill import Distillation, view_paths
from training.engine import load_network, read_log
from training.recipe import TEACHERS, run
from training.teachers import DenseArchitecture

from .helpers import config, faces

DENSE = DenseArchitecture("vgg", 4, (1, 1))
PRESETS = {
    **{name: config(dense=DENSE, epochs=1, votes=0.5) for name in TEACHERS},
    "fast": config(epochs=2, votes=0.5),
    "fast-finish": config(epochs=1, votes=0.5, learning_rate=0.01),
    "balanced": config(epochs=1, votes=0.5),
    "balanced-finish": config(epochs=1, votes=0.5, learning_rate=0.01),
    "balanced-again": config(epochs=2, votes=0.5, distillation=Distillation("mild-views")),
}


def test_the_recipe_ends_with_a_variant_and_repeating_it_changes_nothing(tmp_path: Path) -> None:
    run("fast", faces(), tmp_path, PRESETS, views=2)
    assert [len(read_log(tmp_path / name)) for name in (*TEACHERS, "fast-taught", "fast")] == [1, 1, 1, 2, 1]
    first = load_network(tmp_path / "fast").state_dict()
    run("fast", faces(), tmp_path, PRESETS, views=2)
    again = load_network(tmp_path / "fast").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_accurate_is_balanced_taught_by_both_and_fast(tmp_path: Path) -> None:
    run("accurate", faces(), tmp_path, PRESETS, views=2)
    lengths = [len(read_log(tmp_path / name)) for name in ("balanced-finished", "fast", "balanced")]
    assert lengths == [1, 1, 2]
    began = json.loads((tmp_path / "balanced" / "config.json").read_text())["begun_with"]
    assert began == digest(tmp_path / "balanced-finished")
    assert len(view_paths(tmp_path / "mild-views")) == 2
