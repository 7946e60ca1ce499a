"""Takes the channel shuffles out of a graph.

ShuffleNet V2 interleaves the channels of two branches after each unit, and the next unit reads half of them.
Which channels those are is known beforehand. So each convolution writes its channels in the order in which
later units read them, and reads them in the order in which they come: its weights are put into other rows and
columns, once, and nothing has to be moved between units but the parts that are read together.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Channel = tuple[str, int]  # a tensor that was computed, and a channel of it
MOVES = {"Concat", "Slice", "Reshape", "Transpose"}
SWAPPED = [0, 2, 1, 3, 4]  # groups and the channels of each


@dataclass(frozen=True)
class Order:
    """How a convolution's channels are stored: the n-th that it writes, or reads, was this one before."""

    writes: Sequence[int]
    reads: Sequence[int]


class Layout:
    """Who reads which channels of a graph's tensors (N, C, H, W).

    readers: tensors that are nothing but moved channels, and read by convolutions, and where these come from.
    parts: for each tensor that is computed and moved, the channels that go to each reader.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.constants = _constants(graph)
        self._convolutions = _convolutions(graph)
        self._activations = {node.input[0]: node.output[0] for node in graph.node if node.op_type == "Relu"}
        self.moved = {node.output[0] for node in graph.node if node.op_type in MOVES}
        origins = self._origins(graph.node)
        self.readers = {
            node.input[0]: origins[node.input[0]]
            for node in self._convolutions
            if node.input[0] in self.moved
        }
        self.parts: dict[str, dict[str, list[int]]] = {}
        for reader, channels in self.readers.items():
            for tensor, channel in channels:
                self.parts.setdefault(tensor, {}).setdefault(reader, []).append(channel)

    def _origins(self, nodes: Iterable[onnx.NodeProto]) -> dict[str, list[Channel]]:
        """For each tensor, where its channels were computed."""
        found: dict[str, list[Channel]] = {}
        for node in nodes:
            name, inputs = node.output[0], list(node.input)
            if node.op_type == "Conv":
                found[name] = [(name, channel) for channel in range(len(self.constants[inputs[1]]))]
            elif node.op_type == "Relu":
                found[name] = [(name, channel) for _, channel in found[inputs[0]]]
            elif node.op_type == "Concat":
                found[name] = list(chain.from_iterable(found[tensor] for tensor in inputs))
            elif node.op_type == "Slice":
                first, last = (int(self.constants[inputs[index]][0]) for index in (1, 2))
                found[name] = found[inputs[0]][first:last]
            elif node.op_type == "Transpose":
                if list(node.attribute[0].ints) != SWAPPED:
                    raise ValueError(f"node {name} moves something else than groups of channels")
                channels = found[inputs[0]]
                half = len(channels) // 2
                found[name] = list(chain.from_iterable(zip(channels[:half], channels[half:], strict=True)))
            elif node.op_type == "Reshape":
                found[name] = found[inputs[0]]
        return found

    def sources(self, reader: str) -> list[str]:
        """The parts that a reader is joined from, by name."""
        named = []
        for tensor, wanted in self.parts.items():
            if reader in wanted:
                number = list(wanted).index(reader)
                named.append(f"{tensor}.{number}" if len(wanted) > 1 else tensor)
        return named

    def orders(self) -> list[Order]:
        """The new order of each convolution's channels, in the order in which they run."""
        stored: dict[str, Sequence[int]] = {name: self._joined(name) for name in self.readers}
        found = []
        for node in self._convolutions:
            name, weight = node.output[0], self.constants[node.input[1]]
            activated = self._activations.get(name, name)
            reads = stored.get(node.input[0], range(weight.shape[1]))
            if _depthwise(node):  # writes what it reads
                order = Order(reads if node.input[0] in stored else range(len(weight)), [0])
            else:
                parts = self.parts.get(activated, {}).values()
                order = Order(list(chain.from_iterable(parts)) or range(len(weight)), reads)
            stored[name] = stored[activated] = order.writes
            found.append(order)
        return found

    def _joined(self, reader: str) -> list[int]:
        """Which channels of a reader come from each of its sources, one after the other."""
        place = {channel: index for index, channel in enumerate(self.readers[reader])}
        return [
            place[tensor, channel]
            for tensor, wanted in self.parts.items()
            for channel in wanted.get(reader, ())
        ]


def shuffles(graph: onnx.GraphProto) -> bool:
    """Whether it moves channels at all. What has been rewritten does not, nor do networks of other kinds."""
    return any(node.op_type == "Transpose" for node in graph.node)


def unshuffle(model: onnx.ModelProto) -> None:
    """Rewrite the graph of a ShuffleNet V2, or of several, in place: it answers as before.

    Raises ValueError where it transposes something else than a shuffle does.
    """
    graph = model.graph
    if not shuffles(graph):
        return
    layout = Layout(graph)
    for node, order in zip(_convolutions(graph), layout.orders(), strict=True):
        weight, bias = (layout.constants[name] for name in node.input[1:])
        # Names of their own: the exporter lets convolutions share what is equal.
        node.input[1:] = [f"{node.output[0]}.weight", f"{node.output[0]}.bias"]
        layout.constants[node.input[1]] = weight[np.ix_(order.writes, order.reads)]
        layout.constants[node.input[2]] = bias[list(order.writes)]
    nodes = list(_nodes(graph, layout))
    used = {name for node in nodes for name in node.input}
    kept = [node for node in nodes if node.op_type not in ("Constant", "Identity") or node.output[0] in used]
    computed = {name for node in kept for name in node.output}
    tensors = [
        numpy_helper.from_array(np.ascontiguousarray(value), name)
        for name, value in layout.constants.items()
        if name in used - computed
    ]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(tensors)


def _nodes(graph: onnx.GraphProto, layout: Layout) -> Iterator[onnx.NodeProto]:
    """Those that compute, and what splits and joins between them."""
    joined: dict[str, str] = {}
    for node in graph.node:
        if node.output[0] in layout.moved:
            continue
        if node.op_type == "Conv" and node.input[0] in layout.readers:
            reader = node.input[0]
            if reader not in joined:
                sources = layout.sources(reader)
                joined[reader] = reader if len(sources) > 1 else sources[0]
                if len(sources) > 1:
                    yield helper.make_node("Concat", sources, [reader], axis=1)
            node.input[0] = joined[reader]
        yield node
        parts = layout.parts.get(node.output[0], {})
        if len(parts) > 1:
            name = node.output[0]
            layout.constants[f"{name}.sizes"] = np.array([len(part) for part in parts.values()], np.int64)
            outputs = [f"{name}.{number}" for number in range(len(parts))]
            yield helper.make_node("Split", [name, f"{name}.sizes"], outputs, axis=1)


def _convolutions(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    return [node for node in graph.node if node.op_type == "Conv"]


def _depthwise(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)


def _constants(graph: onnx.GraphProto) -> dict[str, NDArray[np.generic]]:
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    tensors |= {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    found = {name: numpy_helper.to_array(tensor) for name, tensor in tensors.items()}
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found
