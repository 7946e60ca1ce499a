"""Networks as ONNX graphs: folded, traced, freed of shuffles, and named without traces of this machine."""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from training.divide import divide
from training.manifest import ExportError
from training.unshuffle import unshuffle

OPSET = 17
PARITY = 1e-4  # how far apart a graph's answers and PyTorch's may be


def fold(network: nn.Module) -> nn.Module:
    """Fold every normalisation into the convolution before it."""
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            for index in range(len(module) - 1):
                convolution, normalisation = module[index], module[index + 1]
                if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
                    module[index] = fuse_conv_bn_eval(convolution, normalisation)
                    module[index + 1] = nn.Identity()
    return network


def write_graph(served: nn.Module, path: Path) -> None:
    """Export a network of crops (N, 1, 48, 48) uint8, with a free batch size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    model = trace(served, torch.zeros(2, 1, 48, 48, dtype=torch.uint8))
    unshuffle(model)
    divide(model)
    save(model, path)


def trace(network: nn.Module, crops: torch.Tensor) -> onnx.ModelProto:
    """The graph of a network as it is, of such crops (N, 1, 48, 48)."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        path = Path(folder) / "traced.onnx"
        # The older exporter writes the smaller graph; it warns of its age, and of channel counts it fixes.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (crops,),
            str(path),
            opset_version=OPSET,
            dynamo=False,
            input_names=["crops"],
            output_names=["probabilities"],
            dynamic_axes={"crops": {0: "faces"}, "probabilities": {0: "faces"}},
        )
        return onnx.load(str(path))


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph without the long names and the traces of the machine that made it."""
    shorten_names(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def shorten_names(graph: onnx.GraphProto) -> None:
    """Replace the exporter's long paths, which take 2 % of the file, by numbers."""
    names = {value.name: value.name for value in (*graph.input, *graph.output)}

    def short(name: str) -> str:
        return names.setdefault(name, str(len(names))) if name else name

    for tensor in graph.initializer:
        tensor.name = short(tensor.name)
    for node in graph.node:
        node.ClearField("name")
        node.ClearField("doc_string")
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]


def check_parity(path: Path, served: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    """The largest difference between what a graph answers, run by ONNX Runtime, and what PyTorch does.

    Raises ExportError where it is more than PARITY, or no number.
    """
    difference = float(np.abs(served - expected).max())
    if not difference <= PARITY:
        raise ExportError(f"{path.name} differs from PyTorch by {difference:.2g}; at most {PARITY} may be")
    return difference
