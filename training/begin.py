"""Begins a run with weights that were trained before, to train them on: for longer, or on one's own faces.

They come from another run, or from an exported graph. An exported graph has its normalisations folded into
its convolutions. They are unfolded here with the statistics of the images at hand, which leaves what the
network answers as it was.
"""

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from hashlib import sha256
from operator import ge
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from training.config import ConfigError
from training.divide import layers
from training.graph import fold, trace
from training.network import learned_by
from training.resize import resize
from training.saved import CHECKPOINT, load_checkpoint, readable
from training.shufflenet import Architecture, ShuffleNetV2
from training.unshuffle import Layout, shuffles

IMAGES = 2048
GRAPH_CURE = "begin with an exported graph, or with the folder of a run"
Weights = list[tuple[Tensor, Tensor]]


def digest(source: Path) -> str:
    """The sha256 by which a run remembers the graph, or the run's checkpoint, that it began with."""
    file = source / CHECKPOINT if source.is_dir() else source
    return sha256(file.read_bytes()).hexdigest()


def begin_with(network: nn.Module, source: Path, images: Tensor) -> None:
    """Give the network the averaged weights of a run (a folder), or those of an exported graph (a file).

    images: as `begin_with_graph` needs them. Raises ConfigError where the architectures differ.
    """
    if not source.is_dir():
        begin_with_graph(network, source, images)
        return
    average = load_checkpoint(source, images.device)["average"]
    try:
        network.load_state_dict(_with_heads(average, network.state_dict()))
    except RuntimeError as error:
        raise ConfigError(f"{source.name} is of another architecture than this run") from error


def begin_resized(network: nn.Module, source: Path, images: Tensor) -> None:
    """Give a ShuffleNet V2 what it can hold of one of other widths or more units (see `training.resize`).

    source, images: as for `begin_with`. Raises ConfigError where it cannot be done.
    """
    architecture = _architecture(source)
    if not isinstance(network, ShuffleNetV2) or not _as_deep(architecture, network.architecture):
        raise ConfigError(f"{source.name} differs from this run in more than widths, or has fewer units")
    given = ShuffleNetV2(architecture, network.classifier.out_features).to(images.device)
    begin_with(given, source, images)
    resize(given, network)


def _as_deep(source: Architecture, wanted: Architecture) -> bool:
    """Whether the source has the same stages, and in each at least the units that are wanted."""
    stages = len(source.repeats) == len(wanted.repeats) and source.stem_stride == wanted.stem_stride
    return stages and all(map(ge, source.repeats, wanted.repeats))


def _architecture(source: Path) -> Architecture:
    """The widths and depths of a run, or of an exported graph."""
    if source.is_dir():
        return learned_by(source)[0].architecture
    with readable(source, GRAPH_CURE):
        return _graph_architecture(_read(source))


def _graph_architecture(graph: onnx.GraphProto) -> Architecture:
    """That of a graph, from its convolutions. Each stage begins with two depthwise ones of stride 2."""
    channels = [len(weight) for weight, _ in _weights(graph)]
    attributes = [_attributes(parts[0]) for parts in layers(graph)]
    strides = [int(given["strides"][0]) for given in attributes]
    depthwise = [index for index, given in enumerate(attributes) if given["group"] > 1]
    # The second of the two is in the branch, and has half of the stage's channels.
    first = [place for place, index in enumerate(depthwise) if strides[index] == 2][1::2]
    last = [place - 1 for place in (*first[1:], len(depthwise) + 1)]
    return Architecture(
        stages=tuple(2 * channels[depthwise[place]] for place in first),
        repeats=tuple(end - begin for begin, end in zip(first, last, strict=True)),
        stem=channels[0],
        head=channels[-2],  # before the classifier
        stem_stride=strides[0],
    )


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}


@torch.no_grad()
def begin_with_graph(network: nn.Module, graph: Path, images: Tensor) -> None:
    """Give the network the weights of a graph that was exported from its like.

    images: network input (N, 1, H, W), some thousand of those it will be trained on; their statistics
    become those of the normalisations. Raises ConfigError for a graph of another architecture, or in 8 bits.
    """
    with readable(graph, GRAPH_CURE):
        model = _read(graph)
        weights = _weights(model)
        if not weights:
            raise ValueError("no graph")
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    shapes, found = [layer.weight.shape for layer in layers], [weight.shape for weight, _ in weights]
    # A network with two heads has a classifier of twice as many rows.
    if shapes[:-1] != found[:-1] or shapes[-1][1:] != found[-1][1:]:
        raise ConfigError(f"{graph.name} is of another architecture than this run")
    if not shuffles(model):
        weights = _shuffled(weights, network, images)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    hooks = []
    for layer, norm, (weight, bias) in zip(layers, norms, weights, strict=False):
        # Back to the size of fresh weights: a step moves weights that folding has made large too little.
        scale = float(layer.weight.std() / weight.std())
        layer.weight.copy_(weight * scale)
        hooks.append(norm.register_forward_pre_hook(partial(_unfold, scale=scale, bias=bias)))
    _copy_classifier(layers[-1], *weights[-1])
    network.eval()(images)
    for hook in hooks:
        hook.remove()
    network.train()


def _read(path: Path) -> onnx.GraphProto:
    graph = onnx.load(str(path)).graph
    if any(node.op_type == "DequantizeLinear" for node in graph.node):
        raise ConfigError(f"{path.name} is in 8 bits: begin with the graph that it was made from")
    return graph


def _unfold(norm: nn.BatchNorm2d, inputs: tuple[Tensor, ...], scale: float, bias: Tensor) -> None:
    """Make the normalisation undo the scale and add the folded bias, and change nothing else."""
    mean, variance = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), unbiased=False)
    norm.running_mean, norm.running_var = mean, variance
    norm.weight.copy_((variance + norm.eps).sqrt() / scale)
    norm.bias.copy_(bias.to(mean) + mean / scale)


def _with_heads(given: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a run with one head, both heads of a network with two; of one with two, the labels' for one."""
    classifier = {name: values for name, values in given.items() if name.startswith("classifier.")}
    for name, values in classifier.items():
        rows = len(wanted.get(name, values))
        if rows == 2 * len(values):
            classifier[name] = torch.cat((values, values))
        elif 2 * rows == len(values):
            classifier[name] = values[:rows]
    return given | classifier


def _copy_classifier(layer: nn.Conv2d | nn.Linear, weight: Tensor, bias: Tensor) -> None:
    """Both heads begin as the one that a graph has."""
    heads = len(layer.weight) // len(weight)
    layer.weight.copy_(weight.repeat(heads, 1))
    if layer.bias is not None:
        layer.bias.copy_(bias.repeat(heads))


def _weights(graph: onnx.GraphProto) -> Weights:
    """Weight and bias of each convolution and of the classifier, in the order in which they run."""
    constants = {item.name: np.array(numpy_helper.to_array(item)) for item in graph.initializer}
    layered = [*layers(graph), *([node] for node in graph.node if node.op_type == "Gemm")]

    def joined(nodes: Sequence[onnx.NodeProto], place: int) -> Tensor:
        return torch.from_numpy(np.concatenate([constants[node.input[place]] for node in nodes]))

    return [(joined(nodes, 1), joined(nodes, 2)) for nodes in layered]


def _shuffled(weights: Weights, network: nn.Module, images: Tensor) -> Weights:
    """Those of a graph that was freed of its shuffles, in the order of channels that the network has."""
    traced = trace(fold(deepcopy(network).cpu().eval()), images[:2].cpu()).graph
    if not shuffles(traced):
        return weights
    found = list(weights)
    for index, order in enumerate(Layout(traced).orders()):
        weight, bias = (torch.empty_like(tensor) for tensor in weights[index])
        writes, reads = torch.tensor(order.writes), torch.tensor(order.reads)
        weight[writes[:, None], reads], bias[writes] = weights[index]
        found[index] = weight, bias
    return found
