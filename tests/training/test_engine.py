import json
import resource
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from training.config import ConfigError, from_saved
from training.engine import Run, train
from training.held_out import split_held_out
from training.log import LOG, read_log
from training.network import accuracy_of, build, load_network
from training.presets import PAPER, Augmentation, to_network
from training.saved import CHECKPOINT

from .helpers import config, faces


def test_one_batch_is_learned_by_heart() -> None:
    torch.manual_seed(0)
    batch = faces(28)
    network = build(config())
    images, labels = to_network(torch.from_numpy(batch.images)[:, None] / 255), torch.from_numpy(batch.labels)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.003)
    for _ in range(150):
        loss = F.cross_entropy(network(images), labels)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert (network(images).argmax(1) == labels).float().mean() > 0.95


@pytest.mark.parametrize("augmentation", [PAPER, Augmentation(mixed=0.5)], ids=["paper", "mixed"])
def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path: Path, augmentation: Augmentation) -> None:
    settings = config(augmentation=augmentation, balanced_classes=True)
    unbroken = train(settings, faces(), tmp_path / "unbroken")
    Run(settings, faces(), tmp_path / "killed").advance()
    resumed = train(settings, faces(), tmp_path / "killed")
    for name, value in unbroken.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    logs = [read_log(tmp_path / name) for name in ("unbroken", "killed")]
    assert [[row["loss"] for row in log] for log in logs] == [[row["loss"] for row in logs[0]]] * 2
    assert [row["epoch"] for row in logs[1]] == ["1", "2"]


def test_a_run_goes_on_whose_checkpoint_holds_its_rate_as_a_number(tmp_path: Path) -> None:
    Run(config(), faces(), tmp_path).advance()
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    for group in state["optimiser"]["param_groups"]:
        group.update(lr=0.05, fused=None)
    torch.save(state, tmp_path / CHECKPOINT)
    resumed = Run(config(), faces(), tmp_path)
    assert all(group["lr"] is resumed.rate and group["fused"] for group in resumed.optimiser.param_groups)
    resumed.finish()
    assert len(read_log(tmp_path)) == config().epochs


def test_a_run_goes_on_whose_log_was_cut_off(tmp_path: Path) -> None:
    Run(config(), faces(), tmp_path).advance()
    log = tmp_path / LOG
    log.write_text("\r\n".join([*log.read_text().split(), "2,0.1"]))
    assert [row["epoch"] for row in read_log(tmp_path)] == ["1"]
    train(config(), faces(), tmp_path)
    assert [row["epoch"] for row in read_log(tmp_path)] == ["1", "2"]


def test_a_full_disk_leaves_what_was_saved_before(tmp_path: Path) -> None:
    run = Run(config(), faces(), tmp_path)
    run.advance()
    saved, limits = (tmp_path / CHECKPOINT).read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(saved) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            run.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / CHECKPOINT).read_bytes() == saved
    assert {path.name for path in tmp_path.iterdir()} == {CHECKPOINT, LOG, "config.json"}


def test_a_run_can_be_read_back_whole(tmp_path: Path) -> None:
    settings = config(augmentation=PAPER, epochs=1)
    network = train(settings, faces(), tmp_path)
    assert from_saved(json.loads((tmp_path / "config.json").read_text())) == settings
    _, held_out = split_held_out(faces(), settings.held_out, settings.seed)
    again = load_network(tmp_path)
    assert not again.training
    assert accuracy_of(again, held_out) == accuracy_of(network, held_out)


def test_a_run_refuses_other_settings(tmp_path: Path) -> None:
    train(config(epochs=1), faces(), tmp_path)
    with pytest.raises(ConfigError, match="begun with other settings: smoothing"):
        Run(config(smoothing=0.0), faces(), tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.01])
def test_a_run_that_holds_nothing_out_has_no_accuracy_of_it(tmp_path: Path, share: float) -> None:
    train(config(epochs=1, held_out=share), faces(), tmp_path)
    (row,) = read_log(tmp_path)
    assert row["held_out_accuracy"] == ""
    assert float(row["training_accuracy"]) >= 0


def test_a_run_does_not_go_on_with_other_images(tmp_path: Path) -> None:
    Run(config(), faces(), tmp_path).advance()
    told = replace(faces(), votes=np.ones((56, 10), np.float32))
    mislabelled = replace(faces(), labels=np.roll(faces().labels, 1))
    for others in (faces(49), told, mislabelled):
        with pytest.raises(ConfigError, match="was begun with other images"):
            Run(config(), others, tmp_path)
    Run(config(), faces(), tmp_path)


def test_a_run_from_before_sources_were_kept_goes_on(tmp_path: Path) -> None:
    Run(config(), faces(), tmp_path).advance()
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    del state["source"]
    torch.save(state, tmp_path / CHECKPOINT)
    assert Run(config(), faces(49), tmp_path).epoch == 1


def test_a_run_does_not_end_before_where_it_is(tmp_path: Path) -> None:
    train(config(epochs=2), faces(), tmp_path)
    with pytest.raises(ConfigError, match="has learned for 2 epochs: it cannot end after 1"):
        Run(config(epochs=1), faces(), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["epochs"] == 2


@pytest.mark.parametrize("damage", [b"", b"something else", None], ids=["empty", "else", "cut off"])
def test_a_broken_checkpoint_is_named(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / CHECKPOINT
    train(config(epochs=1), faces(), tmp_path)
    path.write_bytes(path.read_bytes()[:-5000] if damage is None else damage)
    for use in (lambda: Run(config(epochs=1), faces(), tmp_path), lambda: load_network(tmp_path)):
        with pytest.raises(ConfigError, match=r"checkpoint\.pt is cut off or something else"):
            use()


def test_a_run_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(ConfigError, match="run is a file, not a folder"):
        Run(config(), faces(), tmp_path / "run")


def test_the_rate_warms_up_then_falls_by_half_a_cosine_and_the_average_grows_old(tmp_path: Path) -> None:
    run = Run(
        config(epochs=4, warmup_epochs=2, learning_rate=0.8, batch=42, average_decay=0.2), faces(), tmp_path
    )
    assert run.steps_per_epoch == 1
    found = []
    for _ in range(4):
        run.advance()
        found.append((run.rate.item(), run.decay.item()))
    assert [rate for rate, _ in found] == pytest.approx([0.4, 0.8, 0.8, 0.4])
    assert [decay for _, decay in found] == pytest.approx([1 / 10, 2 / 11, 0.2, 0.2])


def test_the_average_takes_a_share_of_each_step(tmp_path: Path) -> None:
    run = Run(config(batch=42), faces(), tmp_path)
    before = deepcopy(run.average.state_dict())
    run.advance()
    for name, value in run.average.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.1 * before[name] + 0.9 * run.model.state_dict()[name])


def test_only_matrices_and_kernels_decay(tmp_path: Path) -> None:
    run = Run(config(weight_decay=0.1, momentum=0.7), faces(), tmp_path)
    sizes = {group["weight_decay"]: {p.ndim for p in group["params"]} for group in run.optimiser.param_groups}
    assert sizes == {0.1: {2, 4}, 0.0: {1}}
    assert all((group["momentum"], group["nesterov"]) == (0.7, True) for group in run.optimiser.param_groups)


def test_rare_classes_make_an_epoch_longer_where_all_come_as_often(tmp_path: Path) -> None:
    # Eight of each emotion, but two angry ones.
    some = faces().subset(np.flatnonzero(faces().labels | (np.arange(56) < 14)))
    for balanced, steps in ((False, 6), (True, 7)):
        settings = config(batch=8, held_out=0, balanced_classes=balanced)
        assert Run(settings, some, tmp_path / str(balanced)).steps_per_epoch == steps


def test_small_pictures_come_first_and_in_the_precision_that_is_asked_for(tmp_path: Path) -> None:
    settings = config(early_side=24, early_share=0.5, precision="bfloat16")
    run, seen = Run(settings, faces(), tmp_path), []
    run.model.register_forward_hook(
        lambda _, inputs, logits: seen.append((run.epoch, inputs[0].shape[-1], logits.dtype))
    )
    run.finish()
    assert set(seen) == {(0, 24, torch.bfloat16), (1, 48, torch.bfloat16)}


def test_the_log_has_means_of_an_epochs_steps(tmp_path: Path) -> None:
    mixed = Augmentation(0, 0, 0, 0, 0, resampled=0, erased=0, mixed=1)
    logs = []
    for name, augmentation in (("plain", config().augmentation), ("mixed", mixed)):
        train(config(learning_rate=0.0, augmentation=augmentation), faces(), tmp_path / name)
        logs.append([float(row["loss"]) for row in read_log(tmp_path / name)])
    # A network that has learned nothing expects all seven alike.
    assert np.ravel(logs) == pytest.approx(np.log(7), abs=0.6)
    assert logs[0] != logs[1]
