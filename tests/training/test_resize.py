from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from training.begin import begin_resized, begin_with
from training.config import ConfigError
from training.engine import Run
from training.export import Served
from training.graph import fold, write_graph
from training.network import build, load_network
from training.presets import to_network
from training.resize import resize, wiring
from training.shufflenet import Architecture, ShuffleNetV2

from .helpers import config, faces

NARROW = Architecture(stages=(8, 20), repeats=(2, 4), stem=4, head=16, dropout=0.0)
WIDE = Architecture(stages=(12, 28), repeats=(2, 4), stem=6, head=18, dropout=0.0)
IMAGES = torch.randn(3, 1, 48, 48, generator=torch.Generator().manual_seed(0))


def lively(architecture: Architecture, seed: int) -> ShuffleNetV2:
    """Random, and as lively as a trained one."""
    torch.manual_seed(seed)
    made = ShuffleNetV2(architecture).eval()
    for norm in (module for module in made.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 1, 3)
        nn.init.normal_(norm.bias)
    return made


def test_a_wider_network_answers_as_the_narrow_one() -> None:
    narrow, wide = lively(NARROW, 0), lively(WIDE, 1)
    assert not torch.allclose(wide(IMAGES), narrow(IMAGES), atol=0.1)
    resize(narrow, wide)
    torch.testing.assert_close(wide(IMAGES), narrow(IMAGES), atol=1e-4, rtol=1e-4)


def test_what_a_wider_network_has_more_of_can_learn() -> None:
    wide = lively(WIDE, 1)
    resize(lively(NARROW, 0), wide)
    wide(IMAGES).square().mean().backward()
    new = [p for p in wide.parameters() if p.ndim == 4 and p[p != 0].numel() != p.numel()]
    assert new
    assert all(p.grad is not None and p.grad[p == 0].abs().max() > 0 for p in new)


def test_the_channels_that_say_most_are_kept() -> None:
    source, network = lively(NARROW, 0), lively(replace(NARROW, head=14), 1)
    with torch.no_grad():
        norm = [module for module in source.modules() if isinstance(module, nn.BatchNorm2d)][-1]
        norm.weight[[0, 7]] = norm.bias[[0, 7]] = 0
    resize(source, network)
    torch.testing.assert_close(network(IMAGES), source(IMAGES), atol=1e-4, rtol=1e-4)


def dense(network: ShuffleNetV2, place: int) -> nn.Conv2d:
    """One of its convolutions; -1 is the last."""
    return [module for module in network.modules() if isinstance(module, nn.Conv2d)][place]


def test_a_shallower_network_takes_all_but_the_last_units() -> None:
    source, network = lively(NARROW, 0), lively(replace(NARROW, repeats=(2, 3)), 1)
    from_the_last = torch.tensor([writer == "1.3.second" for writer, _ in wiring(NARROW)["head"]])
    with torch.no_grad():
        dense(source, -1).weight[:, from_the_last] = 0
    resize(source, network)
    torch.testing.assert_close(network(IMAGES), source(IMAGES), atol=1e-4, rtol=1e-4)
    # What only the last unit read is there to be learned from.
    given, taken = dense(source, -5), dense(network, -2)
    sums = [sorted(layer.weight.sum((1, 2, 3)).tolist()) for layer in (given, taken)]
    assert sums[0] == pytest.approx(sums[1], abs=1e-6)


def test_each_half_of_a_units_channels_is_read_by_the_next() -> None:
    read = wiring(Architecture(stages=(8,), repeats=(3,), stem=2, head=4))
    assert read["0.1.first"] == [
        ("0.0.shortcut", 2),
        ("0.0.second", 2),
        ("0.0.shortcut", 3),
        ("0.0.second", 3),
    ]
    kept, worked = (
        [("0.0.shortcut", 0), ("0.0.second", 0), ("0.0.shortcut", 1), ("0.0.second", 1)],
        "0.1.second",
    )
    assert read["0.2.first"] == [kept[2], (worked, 2), kept[3], (worked, 3)]
    assert len(read["head"]) == len(set(read["head"])) == 8


@pytest.mark.parametrize("exported", [False, True])
def test_a_run_begins_with_a_narrower_one(tmp_path: Path, exported: bool) -> None:
    Run(config(architecture=NARROW), faces(), tmp_path / "run").finish()
    source = tmp_path / "run"
    images = to_network(torch.from_numpy(faces().images)[:, None].float() / 255)
    if exported:
        source = tmp_path / "graph.onnx"
        write_graph(Served(fold(load_network(tmp_path / "run")), 1.0).eval(), source)
    wide, narrow = build(config(architecture=WIDE)), build(config(architecture=NARROW))
    begin_resized(wide, source, images)
    begin_with(narrow, source, images)
    torch.testing.assert_close(wide.eval()(images), narrow.eval()(images), atol=1e-4, rtol=1e-4)


def test_what_is_no_such_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").write_bytes(b"no graph")
    with pytest.raises(ConfigError, match=r"graph\.onnx is cut off or something else"):
        begin_resized(build(config(architecture=WIDE)), tmp_path / "graph.onnx", IMAGES)


@pytest.mark.parametrize("other", [replace(NARROW, repeats=(2, 5)), replace(NARROW, stem_stride=1)])
def test_a_run_of_another_depth_is_refused(tmp_path: Path, other: Architecture) -> None:
    Run(config(architecture=NARROW), faces(), tmp_path / "run").finish()
    with pytest.raises(
        ConfigError, match="run differs from this run in more than widths, or has fewer units"
    ):
        begin_resized(build(config(architecture=other)), tmp_path / "run", IMAGES)
