import json
from pathlib import Path

import numpy as np
import pytest
import torch

from training.config import ConfigError
from training.data import VOTE_OF_EMOTION, Faces
from training.engine import train
from training.held_out import split_held_out
from training.network import load_network
from training.shufflenet import EMOTIONS
from training.teachers import DenseArchitecture
from training.votes_head import add_votes_head

from .helpers import CONFIG, config, faces


def with_votes(shift: int) -> Faces:
    """Of these, all ten voters name the emotion `shift` places after the label."""
    labelled = faces()
    votes = np.zeros((len(labelled), 10), np.float32)
    votes[np.arange(len(labelled)), np.array(VOTE_OF_EMOTION)[(labelled.labels + shift) % 7]] = 10
    return Faces(labelled.images, labelled.labels, votes)


def test_the_votes_head_says_what_voters_do_and_the_other_what_it_said(tmp_path: Path) -> None:
    voted = with_votes(1)
    labels_alone = train(config(epochs=20), voted, tmp_path / "labels")
    both = add_votes_head(voted, tmp_path / "both", tmp_path / "labels")
    written = load_network(tmp_path / "both").state_dict()
    assert all(torch.equal(value, written[name]) for name, value in both.state_dict().items())
    fit, _ = split_held_out(voted, CONFIG.held_out, CONFIG.seed)
    with torch.no_grad():
        images = torch.from_numpy(fit.images)[:, None].float() / 127.5 - 1
        before, after = labels_alone(images), both(images)
    torch.testing.assert_close(after[:, :EMOTIONS], before)
    right = (after[:, EMOTIONS:].argmax(1).numpy() == (fit.labels + 1) % 7).mean()
    assert right > 0.9


def test_a_votes_head_is_not_learned_twice_nor_without_votes(tmp_path: Path) -> None:
    train(config(epochs=1), with_votes(0), tmp_path / "labels")
    once = add_votes_head(with_votes(0), tmp_path / "both", tmp_path / "labels")
    again = add_votes_head(with_votes(0), tmp_path / "both", tmp_path / "labels")
    assert all(map(torch.equal, once.state_dict().values(), again.state_dict().values()))
    with pytest.raises(ConfigError, match="no FER"):
        add_votes_head(faces(), tmp_path / "none", tmp_path / "labels")


def test_the_images_that_the_first_run_held_out_stay_held_out(tmp_path: Path) -> None:
    train(config(epochs=1, seed=7, held_out=0.5), with_votes(0), tmp_path / "labels")
    add_votes_head(with_votes(0), tmp_path / "both", tmp_path / "labels")
    written = json.loads((tmp_path / "both" / "config.json").read_text())
    assert (written["seed"], written["held_out"], written["votes"]) == (7, 0.5, 1.0)


def test_a_teacher_gets_no_votes_head(tmp_path: Path) -> None:
    train(config(epochs=1, dense=DenseArchitecture("vgg", 2, (1, 1))), with_votes(0), tmp_path / "teacher")
    with pytest.raises(ConfigError, match="is a teacher"):
        add_votes_head(with_votes(0), tmp_path / "both", tmp_path / "teacher")
    assert not (tmp_path / "both").exists()


def test_a_run_that_asked_for_scenes_of_its_views_gets_a_votes_head(tmp_path: Path) -> None:
    train(config(epochs=1), with_votes(0), tmp_path / "labels")
    path = tmp_path / "labels" / "checkpoint.pt"
    saved = torch.load(path)
    saved["config"]["augmentation"]["in_scenes"] = 0.5
    torch.save(saved, path)
    add_votes_head(with_votes(0), tmp_path / "both", tmp_path / "labels")
