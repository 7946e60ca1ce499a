from itertools import chain

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from training.divide import divide, layers
from training.graph import fold, trace
from training.shufflenet import Architecture, ShuffleNetV2
from training.unshuffle import unshuffle

BLOCKS = Architecture(stages=(32, 64), repeats=(1, 2), stem=4, head=16)  # parts of 16 channels
SOME = Architecture(stages=(32, 64), repeats=(1, 3), stem=4, head=16)  # the second unit's, of 8
IMAGES = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 1, 48, 48)).astype(np.float32))


def unshuffled(architecture: Architecture) -> onnx.ModelProto:
    torch.manual_seed(0)
    network = ShuffleNetV2(architecture).eval()
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 1, 3)
        nn.init.normal_(norm.bias)
    model = trace(fold(network), IMAGES)
    unshuffle(model)
    return model


def answers(model: onnx.ModelProto) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"crops": IMAGES.numpy()})[0])


@pytest.mark.parametrize(("architecture", "splits"), [(BLOCKS, 0), (SOME, 2)])
def test_a_divided_graph_answers_as_before(architecture: Architecture, splits: int) -> None:
    model = unshuffled(architecture)
    expected = answers(model)
    assert np.ptp(expected, axis=0).max() > 0.01
    before = layers(model.graph)
    divide(model)
    onnx.checker.check_model(model)
    np.testing.assert_allclose(answers(model), expected, atol=1e-5)
    assert sum(node.op_type == "Split" for node in model.graph.node) == splits
    after = layers(model.graph)
    assert len(before) == len(after) < len(list(chain.from_iterable(after)))


def test_what_is_divided_is_not_divided_again() -> None:
    model = unshuffled(BLOCKS)
    divide(model)
    once = model.SerializeToString()
    divide(model)
    assert model.SerializeToString() == once
