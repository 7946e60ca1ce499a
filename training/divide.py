"""Writes a convolution whose channels are split into whole blocks as several, one for each part.

ONNX Runtime keeps what convolutions write in blocks of channels. To split that, it would put it in another
order, and back into blocks for the next convolution.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

BLOCK = 16  # channels: the floats in a register of AVX-512; with AVX2 it is two blocks of eight
Constants = dict[str, NDArray[np.generic]]


def divide(model: onnx.ModelProto) -> None:
    """Rewrite a graph in place: it answers as before. What it splits must be convolutions, activated."""
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    writers = {name: node for node in graph.node for name in node.output}
    parts: dict[str, list[onnx.NodeProto]] = {}  # by what the convolution wrote
    for split in graph.node:
        if split.op_type == "Split" and not np.any(constants[split.input[1]] % BLOCK):
            activation = writers[split.input[0]]
            convolution = writers[activation.input[0]]
            parts[convolution.output[0]] = list(_parts(convolution, activation, split, constants))
            parts[activation.output[0]] = parts[split.output[0]] = []
    nodes = [part for node in graph.node for part in parts.get(node.output[0], [node])]
    used = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used]
    # Before the old nodes are gone: these are some of them.
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)


def layers(graph: onnx.GraphProto) -> list[list[onnx.NodeProto]]:
    """A network's convolutions in the order in which they run, each as the parts that it is written in."""
    found: list[list[onnx.NodeProto]] = []
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        # Undivided, no dense convolution reads what the one before it reads.
        if found and found[-1][0].input[0] == node.input[0] and _dense(node) and _dense(found[-1][0]):
            found[-1].append(node)
        else:
            found.append([node])
    return found


def _parts(
    convolution: onnx.NodeProto, activation: onnx.NodeProto, split: onnx.NodeProto, constants: Constants
) -> Iterator[onnx.NodeProto]:
    """A convolution and an activation for each part that is split off."""
    edges = np.cumsum(constants[split.input[1]])[:-1]
    weights, biases = (np.split(constants[name], edges) for name in convolution.input[1:])
    for part, weight, bias in zip(split.output, weights, biases, strict=True):
        inputs, written = [convolution.input[0], f"{part}.weight", f"{part}.bias"], f"{part}.written"
        constants |= {inputs[1]: np.ascontiguousarray(weight), inputs[2]: np.ascontiguousarray(bias)}
        one = helper.make_node("Conv", inputs, [written])
        one.attribute.extend(convolution.attribute)
        yield one
        yield helper.make_node(activation.op_type, [written], [part])


def _dense(node: onnx.NodeProto) -> bool:
    return all(attribute.i == 1 for attribute in node.attribute if attribute.name == "group")
