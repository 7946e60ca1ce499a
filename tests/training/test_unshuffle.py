import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import helper
from torch import nn

from training.ensemble import ensemble
from training.graph import fold, trace
from training.shufflenet import Architecture, ShuffleNetV2
from training.unshuffle import Layout, shuffles, unshuffle

# Halves of halves of 10 are odd: channels of one convolution go to several readers, in uneven parts.
DEEP = Architecture(stages=(8, 20), repeats=(2, 5), stem=4, head=16, dropout=0.0)
IMAGES = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 1, 48, 48)).astype(np.float32))


def network(seed: int = 0) -> ShuffleNetV2:
    """Random, and as lively as a trained one: its answers tell each channel from the others."""
    torch.manual_seed(seed)
    made = ShuffleNetV2(DEEP).eval()
    for norm in (module for module in made.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 1, 3)
        nn.init.normal_(norm.bias)
    return made


def answers(model: onnx.ModelProto) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"crops": IMAGES.numpy()})[0])


@pytest.mark.parametrize("networks", [1, 2])
def test_a_graph_without_shuffles_answers_as_the_one_with_them(networks: int) -> None:
    several = [fold(network(seed)) for seed in range(networks)]
    model = trace(ensemble(several, [1.0] * networks), IMAGES)
    expected = answers(model)
    assert np.ptp(expected, axis=0).max() > 0.01
    unshuffle(model)
    onnx.checker.check_model(model)
    np.testing.assert_allclose(answers(model), expected, atol=1e-5)
    assert not {node.op_type for node in model.graph.node} & {"Transpose", "Reshape", "Slice"}


def test_what_is_rewritten_is_not_rewritten_again() -> None:
    model = trace(fold(network()), IMAGES)
    unshuffle(model)
    once = model.SerializeToString()
    unshuffle(model)
    assert model.SerializeToString() == once
    assert not shuffles(model.graph)


def test_no_channel_is_lost() -> None:
    graph = trace(fold(network()), IMAGES).graph
    layout = Layout(graph)
    sizes = [len(layout.constants[node.input[1]]) for node in graph.node if node.op_type == "Conv"]
    for order, size in zip(layout.orders(), sizes, strict=True):
        assert sorted(order.writes) == list(range(size))
    for reader, channels in layout.readers.items():
        assert sum(len(parts.get(reader, ())) for parts in layout.parts.values()) == len(channels)


def test_another_transposition_is_refused() -> None:
    model = trace(fold(network()), IMAGES)
    shuffle = next(node for node in model.graph.node if node.op_type == "Transpose")
    shuffle.attribute[0].CopyFrom(helper.make_attribute("perm", [0, 1, 2, 4, 3]))
    with pytest.raises(ValueError, match="moves something else"):
        unshuffle(model)
