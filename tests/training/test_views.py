import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from training.config import ConfigError
from training.distill import Distillation, distillation_loss
from training.engine import Run, train
from training.export import Served
from training.graph import fold, write_graph
from training.held_out import split_held_out
from training.log import read_log
from training.network import build, load_network
from training.presets import Augmentation, to_network
from training.targets import targets
from training.teachers import DenseArchitecture
from training.view_folder import SOURCE, load_view
from training.views import opinion, teacher, write_views

from .helpers import CONFIG, config, faces


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


def test_the_distillation_loss_mixes_the_targets_with_what_is_taught_softened() -> None:
    logits, taught = (torch.randn(5, 7, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    taught = taught.log_softmax(1)
    soft, wanted = ((values / 4).log_softmax(1) for values in (logits, taught))
    apart = F.kl_div(soft, wanted, log_target=True, reduction="batchmean")
    found = distillation_loss(torch.tensor(3.0), logits, taught, 0.0, Distillation("any", 0.25, 4.0))
    torch.testing.assert_close(found, 0.75 * torch.tensor(3.0) + 0.25 * 16 * apart)


def test_students_go_round_the_views(tmp_path: Path) -> None:
    settings = config(augmentation=Augmentation(mixed=0.5))
    write_views(settings, faces(), [build(config()).eval()], tmp_path / "views", 2)
    student = Run(config(distillation=Distillation("views"), epochs=3), faces(), tmp_path / "student")
    shown = []
    for _ in range(3):
        student.advance()
        assert student.view is not None
        shown.append(student.view.images.clone())
    assert not torch.equal(shown[0], shown[1])
    assert torch.equal(shown[0], shown[2])


@torch.no_grad()
def test_teachers_are_heard_head_by_head_and_each_alike() -> None:
    networks = [build(config(votes=0.5)).eval() for _ in range(2)]
    for network, certainty in zip(networks, (1, 100), strict=True):
        assert isinstance(network.classifier, torch.nn.Linear)
        network.classifier.weight.mul_(certainty)
    images = torch.rand(3, 1, 48, 48)
    each = [
        torch.cat([head.log_softmax(1) for head in network(images).split(7, 1)], 1) for network in networks
    ]
    torch.testing.assert_close(opinion(networks, images), (each[0] + each[1]) / 2)


def test_what_is_taught_counts_in_the_loss_of_a_run(tmp_path: Path) -> None:
    write_views(config(), faces(), [build(config()).eval()], tmp_path / "views", 1)
    losses = []
    for weight in (0.0, 0.5, 1.0):
        taught = config(distillation=Distillation("views", weight), learning_rate=0.0, epochs=1)
        train(taught, faces(), tmp_path / str(weight))
        losses.append(float(read_log(tmp_path / str(weight))[0]["loss"]))
    assert losses[0] == pytest.approx(np.log(7), abs=0.6)
    # The teacher knows as little as the student: they hardly differ.
    assert losses[2] < 0.6
    assert losses[1] == pytest.approx((losses[0] + losses[2]) / 2, abs=1e-4)
