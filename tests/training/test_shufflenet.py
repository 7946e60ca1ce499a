import pytest
import torch
from torch import nn

from training.graph import fold
from training.network import build
from training.recipe import PRESETS
from training.shufflenet import Architecture, DownsamplingUnit, ShuffleNetV2, Unit, channel_shuffle
from training.teachers import DenseArchitecture, DenseNetwork


def test_channel_shuffle_interleaves_the_halves() -> None:
    x = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert channel_shuffle(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_a_unit_passes_half_of_its_channels_unchanged() -> None:
    x = torch.randn(2, 8, 6, 6)
    out = Unit(8).eval()(x)
    assert out.shape == x.shape
    assert torch.equal(out[:, 0::2], x[:, :4])  # the shuffle puts the passed half at even places


@pytest.mark.parametrize(("side", "half"), [(12, 6), (9, 5)])
def test_a_downsampling_unit_halves_the_resolution(side: int, half: int) -> None:
    assert DownsamplingUnit(6, 16)(torch.randn(2, 6, side, side)).shape == (2, 16, half, half)


@pytest.mark.parametrize(("stride", "first"), [(1, 24), (2, 12)])
def test_stem_stride_decides_the_first_stage_s_resolution(stride: int, first: int) -> None:
    network = ShuffleNetV2(Architecture(stages=(8,), repeats=(1,), stem=4, head=8, stem_stride=stride))
    assert network.features[:2](torch.zeros(1, 1, 48, 48)).shape == (1, 8, first, first)


def test_the_network_takes_any_size() -> None:
    network = ShuffleNetV2(Architecture(stages=(8, 16), repeats=(1, 1), stem=4, head=8)).eval()
    assert network(torch.zeros(3, 1, 32, 40)).shape == (3, 7)


@pytest.mark.parametrize(("preset", "most"), [("fast", 375_000), ("balanced", 1_150_000)])
def test_folded_parameters_fit_the_file_sizes(preset: str, most: int) -> None:
    folded = fold(build(PRESETS[preset]).eval())
    assert sum(parameter.numel() for parameter in folded.parameters()) < most


@pytest.mark.parametrize("kind", ["resnet", "vgg"])
def test_folding_keeps_the_outputs(kind: str) -> None:
    torch.manual_seed(0)
    small = Architecture(stages=(8, 16), repeats=(1, 2), stem=4, head=16)
    for network in (ShuffleNetV2(small), DenseNetwork(DenseArchitecture(kind, 4, (1, 2)))):
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean = torch.rand(module.num_features)
                module.running_var = 0.5 + torch.rand(module.num_features)
        x = torch.randn(4, 1, 48, 48)
        before = network.eval()(x)
        folded = fold(network)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
        torch.testing.assert_close(folded(x), before, atol=1e-5, rtol=1e-4)
