import json
import resource
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from training.begin import CHECKPOINT
from training.config import Config, ConfigError, from_saved, override
from training.distill import SOURCE, Distillation, distillation_loss, load_view
from training.engine import (
    LOG,
    Run,
    accuracy_of,
    build,
    load_network,
    read_log,
    split_held_out,
    targets,
    train,
)
from training.export import Served
from training.graph import fold, write_graph
from training.presets import PAPER, Augmentation, to_network
from training.recipe import PRESETS
from training.teachers import DenseArchitecture
from training.views import opinion, teacher, write_views

from .helpers import CONFIG, config, faces


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


def test_a_config_saved_before_a_setting_existed_has_its_default() -> None:
    saved = asdict(Config())
    for name in ("dense", "distillation", "balanced_classes", "early_side", "early_share", "precision"):
        del saved[name]
    for name in ("blurred", "jpeg", "noise", "grid", "mixed", "cut"):
        del saved["augmentation"][name]
    assert from_saved(json.loads(json.dumps(saved))) == Config()


def test_settings_are_overridden_by_name() -> None:
    changed = override(Config(), ["votes=0", "augmentation.jpeg=0.3", "architecture.repeats=[2, 4, 2]"])
    assert (changed.votes, changed.augmentation.jpeg, changed.architecture.repeats) == (0, 0.3, (2, 4, 2))
    with pytest.raises(ConfigError, match="no setting 'jpg'; there are blurred, brightness"):
        override(Config(), ["augmentation.jpg=0.3"])
    with pytest.raises(ConfigError, match="is not name=value"):
        override(Config(), ["votes"])


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_its_own_json(name: str) -> None:
    assert from_saved(json.loads(json.dumps(asdict(PRESETS[name])))) == PRESETS[name]


@pytest.mark.parametrize("name", sorted(PRESETS.keys() - {"paper"}))
def test_all_presets_hold_out_the_same_images(name: str) -> None:
    """They teach each other and answer together, and `training.robustness --held-out` shows these images."""
    assert (PRESETS[name].held_out, PRESETS[name].seed) == (Config().held_out, Config().seed)


def test_targets_are_the_label_and_beside_it_the_votes() -> None:
    some = faces(2)  # angry, disgust
    some.votes[0] = 0
    some.votes[0, [4, 0]] = 5, 5  # half angry, half neutral
    found = targets(some, smoothing=0.07, votes=True)
    np.testing.assert_allclose(found[0], [0.94, *[0.01] * 6, 0.5, 0, 0, 0, 0, 0, 0.5], atol=1e-6)
    np.testing.assert_allclose(found[1], [0.01, 0.94, *[0.01] * 5, *[0] * 7], atol=1e-6)  # no votes
    assert torch.equal(targets(some, smoothing=0.07, votes=False), found[:, :7])


def test_held_out_images_are_apart_and_the_same_every_time() -> None:
    fit, held_out = split_held_out(faces(40), 0.25, seed=1)
    assert len(held_out) == 10
    kept = {image.tobytes() for image in fit.images}
    assert not kept & {image.tobytes() for image in held_out.images}
    assert np.array_equal(split_held_out(faces(40), 0.25, seed=1)[1].images, held_out.images)


def test_a_student_learns_from_what_dense_teachers_say(tmp_path: Path) -> None:
    for kind in ("resnet", "vgg"):
        dense = DenseArchitecture(kind, 4, (1, 1))
        train(config(dense=dense, epochs=1, votes=0.5, precision="bfloat16"), faces(), tmp_path / kind)
    teachers = [load_network(tmp_path / kind) for kind in ("resnet", "vgg")]
    write_views(
        config(augmentation=Augmentation(mixed=0.5), votes=0.5), faces(), teachers, tmp_path / "views", 2
    )
    taught = config(distillation=Distillation("views"), votes=0.5, epochs=3, early_side=24, early_share=1.0)
    unbroken = train(taught, faces(), tmp_path / "student")
    Run(taught, faces(), tmp_path / "killed").advance()
    resumed = train(taught, faces(), tmp_path / "killed")
    assert all(map(torch.equal, unbroken.state_dict().values(), resumed.state_dict().values()))


def test_a_view_keeps_the_order_of_the_images_and_what_the_teacher_says_of_them(tmp_path: Path) -> None:
    train(config(epochs=1, votes=0.5), faces(), tmp_path / "teacher")
    network = load_network(tmp_path / "teacher")
    write_views(config(votes=0.5), faces(), [network], tmp_path / "views", 1)
    view = load_view(tmp_path / "views" / "view-000.pt", torch.device("cpu"))
    fit, _ = split_held_out(faces(), CONFIG.held_out, CONFIG.seed)
    mirrored = np.stack((fit.images, fit.images[:, :, ::-1]))
    assert (np.abs(mirrored.astype(int) - view.images[:, 0].numpy()) <= 1).all((2, 3)).any(0).all()
    assert torch.equal(view.targets, targets(fit, CONFIG.smoothing, True).half())
    said = opinion([network], to_network(view.images.float() / 255))
    torch.testing.assert_close(view.taught.float(), said, atol=0.02, rtol=0)


def test_an_exported_graph_teaches_what_its_network_would(tmp_path: Path) -> None:
    network, graph = train(config(epochs=1), faces(), tmp_path / "run"), tmp_path / "graph.onnx"
    write_graph(Served(fold(load_network(tmp_path / "run")), 1.0).eval(), graph)
    images = to_network(torch.from_numpy(faces().images)[:, None].float() / 255)
    said = opinion([teacher(tmp_path, str(graph))], images)
    torch.testing.assert_close(said, opinion([network], images), atol=1e-3, rtol=0)
    write_views(config(), faces(), [teacher(tmp_path, str(graph))], tmp_path / "views", 1)
    with pytest.raises(ConfigError, match="begun with other teachers"):
        write_views(config(), faces(), [teacher(tmp_path, "run")], tmp_path / "views", 2)
    graph.write_bytes(graph.read_bytes()[:-5000])
    with pytest.raises(ConfigError, match=r"graph\.onnx is cut off or something else"):
        teacher(tmp_path, str(graph))


def test_views_that_hold_out_other_images_are_refused(tmp_path: Path) -> None:
    write_views(config(seed=2), faces(), [build(config()).eval()], tmp_path / "views", 1)
    with pytest.raises(ConfigError, match="another held_out or seed"):
        Run(config(distillation=Distillation("views")), faces(), tmp_path / "student")


def test_views_that_do_not_fit_the_run_are_refused(tmp_path: Path) -> None:
    student, network = config(distillation=Distillation("views")), build(config()).eval()
    with pytest.raises(ConfigError, match="holds no views: write some"):
        Run(student, faces(), tmp_path / "student")
    write_views(config(), faces(), [network], tmp_path / "views", 0)
    with pytest.raises(ConfigError, match="holds no views"):
        Run(student, faces(), tmp_path / "student")
    write_views(config(), faces(), [network], tmp_path / "views", 1)
    for other in (replace(student, votes=0.5), student):
        images = faces() if other.votes else faces(28)
        with pytest.raises(ConfigError, match="other images, or another number of heads"):
            Run(other, images, tmp_path / "student")


def test_a_run_does_not_go_on_with_more_views(tmp_path: Path) -> None:
    student, network = config(distillation=Distillation("views")), build(config()).eval()
    write_views(config(), faces(), [network], tmp_path / "views", 1)
    Run(student, faces(), tmp_path / "student").advance()
    write_views(config(), faces(), [network], tmp_path / "views", 2)
    with pytest.raises(ConfigError, match="begun with other views"):
        Run(student, faces(), tmp_path / "student")


def test_a_folder_of_views_becomes_no_run(tmp_path: Path) -> None:
    write_views(config(), faces(), [build(config()).eval()], tmp_path / "views", 1)
    with pytest.raises(ConfigError, match="holds views: a run needs a folder of its own"):
        Run(config(), faces(), tmp_path / "views")


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


def test_views_are_not_continued_with_other_images_or_teachers(tmp_path: Path) -> None:
    teachers = [build(config()).eval() for _ in range(3)]
    write_views(config(), faces(), teachers[:2], tmp_path, 1)
    write_views(config(), faces(), teachers[1::-1], tmp_path, 2)
    with pytest.raises(ConfigError, match="begun with other images"):
        write_views(config(), faces(49), teachers[:2], tmp_path, 3)
    with pytest.raises(ConfigError, match="begun with other teachers"):
        write_views(config(), faces(), teachers, tmp_path, 3)
    (tmp_path / SOURCE).unlink()  # as older views are
    write_views(config(), faces(), teachers, tmp_path, 3)
    assert not (tmp_path / SOURCE).exists()


def test_a_run_does_not_go_on_with_what_other_teachers_say(tmp_path: Path) -> None:
    student = config(distillation=Distillation("views"))
    write_views(config(), faces(), [build(config()).eval()], tmp_path / "views", 1)
    Run(student, faces(), tmp_path / "student").advance()
    shutil.rmtree(tmp_path / "views")
    write_views(config(), faces(), [build(config()).eval()], tmp_path / "views", 1)
    with pytest.raises(ConfigError, match="was begun with other teachers"):
        Run(student, faces(), tmp_path / "student")


def test_a_run_does_not_learn_from_views_of_other_images(tmp_path: Path) -> None:
    others = replace(faces(), images=255 - faces().images)
    write_views(config(), others, [build(config()).eval()], tmp_path / "views", 1)
    with pytest.raises(ConfigError, match="written for other images"):
        Run(config(distillation=Distillation("views")), faces(), tmp_path / "student")


def test_a_broken_view_is_named(tmp_path: Path) -> None:
    write_views(config(), faces(), [build(config()).eval()], tmp_path / "views", 2)
    student = Run(config(distillation=Distillation("views")), faces(), tmp_path / "student")
    for name in ("view-000.pt", SOURCE, "config.json"):
        (tmp_path / "views" / name).write_bytes(b"{")
        with pytest.raises(ConfigError, match=rf"{name} is cut off or something else"):
            Run(student.config, faces(), tmp_path / "student")
    with pytest.raises(ConfigError, match=r"view-000\.pt is cut off or something else"):
        student.advance()


def test_teachers_have_as_many_heads_as_their_views(tmp_path: Path) -> None:
    teachers = [build(config(votes=votes)).eval() for votes in (0, 0.5)]
    for votes, heads in ((0.0, r"one head \(votes=0\)"), (0.5, "two heads")):
        with pytest.raises(ConfigError, match=f"views with {heads}.* need teachers"):
            write_views(config(votes=votes), faces(), teachers, tmp_path, 1)


def test_views_are_not_continued_with_other_settings(tmp_path: Path) -> None:
    teacher = build(config()).eval()
    write_views(config(), faces(), [teacher], tmp_path, 1)
    with pytest.raises(ConfigError, match="begun with other settings: smoothing"):
        write_views(config(smoothing=0.0), faces(), [teacher], tmp_path, 2)


def test_the_distillation_loss_mixes_the_targets_with_what_is_taught() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0, 0.5, 0.0, 0.0, 1.0]])
    loss, taught = torch.tensor(3.0), logits.log_softmax(1)
    all_of_it = Distillation("any", weight=1.0)
    assert distillation_loss(loss, logits, taught, 0.0, all_of_it) == pytest.approx(0, abs=1e-6)
    assert distillation_loss(loss, -logits, taught, 0.0, all_of_it) > 0.5
    assert distillation_loss(loss, -logits, taught, 0.0, replace(all_of_it, weight=0.0)) == loss
