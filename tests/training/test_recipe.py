import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.begin import digest
from training.data import DataError, Faces
from training.distill import Distillation
from training.heads import has_two_heads
from training.log import read_log
from training.network import load_network
from training.recipe import TAUGHT_TEACHERS, TEACHERS, run
from training.teachers import DenseArchitecture
from training.view_folder import view_paths

from .helpers import config, faces

DENSE = DenseArchitecture("vgg", 4, (1, 1))
FIRST, TEACHES_AGAIN = Distillation("first-views"), Distillation("mild-views")
STUDENTS = ("fast", "balanced")
PRESETS = {
    **{name: config(dense=DENSE, epochs=1, votes=0.5) for name in TEACHERS},
    **{name: config(dense=DENSE, epochs=2, votes=0.5, distillation=FIRST) for name in TAUGHT_TEACHERS},
    **{name: config(epochs=2, votes=0.5) for name in STUDENTS},
    **{f"{name}-again": config(epochs=3, votes=0.5, distillation=TEACHES_AGAIN) for name in STUDENTS},
}
VOTED = replace(faces(), votes=np.ones((len(faces()), 10), np.float32))


@pytest.mark.parametrize(("shown", "two_heads"), [(VOTED, True), (faces(), False)], ids=["votes", "no votes"])
def test_the_recipe_ends_with_a_variant_and_repeating_it_changes_nothing(
    tmp_path: Path, shown: Faces, two_heads: bool
) -> None:
    run("fast", shown, tmp_path, PRESETS, views=2)
    steps = (*TEACHERS, *TAUGHT_TEACHERS, "fast-taught", "fast")
    assert [len(read_log(tmp_path / name)) for name in steps] == [1, 1, 2, 2, 2, 3]
    first = load_network(tmp_path / "fast").state_dict()
    run("fast", shown, tmp_path, PRESETS, views=2)
    again = load_network(tmp_path / "fast").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert {has_two_heads(load_network(tmp_path / name)) for name in steps} == {two_heads}


def test_the_votes_head_is_not_made_without_votes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the data has no FER"):
        run("ferplus", faces(), tmp_path, PRESETS, views=2)
    assert not list(tmp_path.iterdir())


def test_accurate_is_balanced_and_fast_each_taught_by_both(tmp_path: Path) -> None:
    run("accurate", VOTED, tmp_path, PRESETS, views=2)
    for name in STUDENTS:
        last = f"{name}-framed"
        assert [len(read_log(tmp_path / run)) for run in (f"{name}-taught", last)] == [2, 3]
        began = json.loads((tmp_path / last / "config.json").read_text())["begun_with"]
        assert began == digest(tmp_path / f"{name}-taught")
        assert not (tmp_path / name).exists()
    assert len(view_paths(tmp_path / "framed-views")) == 2
    views = json.loads((tmp_path / "framed-views" / "config.json").read_text())
    assert views["augmentation"]["in_scenes"] == 0
