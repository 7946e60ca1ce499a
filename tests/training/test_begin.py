from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from training.begin import begin_with, digest
from training.config import ConfigError
from training.engine import Run
from training.export import Served
from training.graph import fold, write_graph
from training.network import build
from training.presets import to_network
from training.quantize import quantize
from training.saved import CHECKPOINT
from training.shufflenet import Architecture

from .helpers import config, faces

SETTINGS = config(architecture=Architecture((16, 32), (1, 4), stem=8, head=24))


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A network that has seen a few batches, exported."""
    run = Run(SETTINGS, faces(), tmp_path / "run")
    run.advance()
    write_graph(Served(fold(run.model.eval()), 1.0).eval(), tmp_path / "graph.onnx")
    return tmp_path / "graph.onnx"


def test_a_run_answers_at_first_as_its_graph_does(tmp_path: Path, graph: Path) -> None:
    exported = Run(SETTINGS, faces(), tmp_path / "run").model.eval()
    network = build(SETTINGS)
    images = to_network(torch.from_numpy(faces().images)[:, None].float() / 255)
    begin_with(network, graph, images)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(images), exported(images), atol=1e-4, rtol=1e-4)


def test_a_run_that_began_with_a_graph_goes_on_learning(tmp_path: Path, graph: Path) -> None:
    settings = config(architecture=SETTINGS.architecture, begun_with=digest(graph))
    run = Run(settings, faces(), tmp_path / "longer", graph)
    before = next(run.model.parameters()).clone()
    run.advance()
    assert not torch.equal(before, next(run.model.parameters()))
    assert float(run.history[0]["loss"]) < 2


def test_a_graph_gives_both_heads_what_its_one_has(graph: Path) -> None:
    network = build(config(architecture=SETTINGS.architecture, votes=0.5))
    images = to_network(torch.from_numpy(faces().images)[:, None].float() / 255)
    begin_with(network, graph, images)
    labels, votes = network.eval()(images).split(7, dim=1)
    assert torch.equal(labels, votes)


def test_a_graph_with_other_widths_inside_is_refused(graph: Path) -> None:
    # Shapes but for the number of output channels agree: that must not pass.
    network = build(SETTINGS)
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    first.weight = nn.Parameter(torch.zeros(9, *first.weight.shape[1:]))
    with pytest.raises(ConfigError, match="another architecture"):
        begin_with(network, graph, torch.zeros(4, 1, 48, 48))


def test_a_graph_of_another_architecture_is_refused(graph: Path) -> None:
    with pytest.raises(ConfigError, match=r"graph\.onnx is of another architecture"):
        begin_with(build(config()), graph, torch.zeros(4, 1, 48, 48))


def test_a_run_goes_on_from_another_with_both_its_heads(tmp_path: Path) -> None:
    first = Run(config(votes=0.5), faces(), tmp_path / "first")
    first.advance()
    settings = config(votes=0.5, learning_rate=0.01, begun_with=digest(tmp_path / "first"))
    second = Run(settings, faces(), tmp_path / "second", tmp_path / "first")
    wanted = first.average.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in second.model.state_dict().items())
    with pytest.raises(ConfigError, match="first is of another architecture"):
        begin_with(build(SETTINGS), tmp_path / "first", torch.zeros(4, 1, 48, 48))


def test_normalisations_keep_their_statistics_where_they_are_to(tmp_path: Path, graph: Path) -> None:
    settings = replace(SETTINGS, fixed_statistics=True, begun_with=digest(graph))
    run = Run(settings, faces(), tmp_path / "second", graph)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.advance()
    kept = {name for name, value in run.model.state_dict().items() if torch.equal(value, before[name])}
    assert kept == {name for name in before if "running" in name or "num_batches" in name}


def test_fixed_statistics_need_a_network_that_has_some(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^fixed_statistics keeps .*: pass --begin-with$"):
        Run(replace(SETTINGS, fixed_statistics=True), faces(), tmp_path / "run")


@pytest.mark.parametrize("settings", [{"seed": 7}, {"held_out": 0.75}], ids=str)
def test_a_run_does_not_hold_out_what_it_began_with_has_learned(tmp_path: Path, settings: Any) -> None:
    Run(config(held_out=0.5), faces(), tmp_path / "first").advance()
    other = config(**{"held_out": 0.5, **settings})
    with pytest.raises(ConfigError, match=r"^first learned .*: pass --set held_out=0\.5 --set seed=\d+$"):
        Run(other, faces(), tmp_path / "second", tmp_path / "first")


@pytest.mark.parametrize("settings", [{"held_out": 0.25}, {"held_out": 0.0, "seed": 7}], ids=str)
def test_a_run_may_hold_out_less_than_the_one_that_it_began_with(tmp_path: Path, settings: Any) -> None:
    first = Run(config(held_out=0.5), faces(), tmp_path / "first")
    first.advance()
    second = Run(config(**settings), faces(), tmp_path / "second", tmp_path / "first")
    known = {image.tobytes() for image in first.held_out.images}
    assert {image.tobytes() for image in second.held_out.images} < known


def test_of_a_run_with_two_heads_a_network_with_one_takes_that_of_the_labels(tmp_path: Path) -> None:
    first = Run(config(votes=0.5), faces(), tmp_path / "first")
    first.advance()
    network, images = build(config()), to_network(torch.from_numpy(faces().images)[:, None].float() / 255)
    begin_with(network, tmp_path / "first", images)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(images), first.average(images)[:, :7])


@pytest.mark.parametrize("damage", [b"", b"something else", None], ids=["empty", "else", "cut off"])
def test_what_is_no_graph_is_named(tmp_path: Path, graph: Path, damage: bytes | None) -> None:
    graph.write_bytes(graph.read_bytes()[:-3000] if damage is None else damage)
    with pytest.raises(ConfigError, match=r"graph\.onnx is cut off or something else"):
        begin_with(build(SETTINGS), graph, torch.zeros(4, 1, 48, 48))
    (tmp_path / "run" / CHECKPOINT).write_bytes(damage or b"PK")
    with pytest.raises(ConfigError, match=r"checkpoint\.pt is cut off or something else"):
        begin_with(build(SETTINGS), tmp_path / "run", torch.zeros(4, 1, 48, 48))


def test_a_graph_in_8_bits_is_refused(tmp_path: Path, graph: Path) -> None:
    quantize(graph, tmp_path / "small.onnx", faces().images)
    with pytest.raises(ConfigError, match=r"small.onnx is in 8 bits"):
        begin_with(build(SETTINGS), tmp_path / "small.onnx", torch.zeros(4, 1, 48, 48))
