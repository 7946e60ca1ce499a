"""Fit the calibration of a graph in the store anew, on images held out of what it learned.

`python -m training.recalibrate --model balanced --data fer2013.csv`

For graphs whose runs are no longer at hand: an export calibrates by itself. Which emotion a graph names does
not change.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper

from service.vision.types import LabelSet
from training import card, manifest
from training.arguments import parser_of_data, told
from training.calibrate import Calibration, calibrate
from training.data import Faces, load
from training.duplicates import without
from training.evaluate import STORE, probabilities
from training.held_out import divided
from training.label_sets import judged, shares
from training.manifest import ExportError
from training.metrics import report


def temperature_of(graph: onnx.GraphProto) -> TensorProto:
    """What the graph divides its logits by, before the softmax at its end. Raises ExportError."""
    makers = {name: node for node in graph.node for name in node.output}
    softmax = makers.get(graph.output[0].name)
    divided = makers.get(softmax.input[0]) if softmax is not None and softmax.op_type == "Softmax" else None
    if divided is not None and divided.op_type == "Div":
        name = divided.input[1]
        found: list[TensorProto] = [tensor for tensor in graph.initializer if tensor.name == name]
        found += [attribute.t for attribute in makers[name].attribute] if name in makers else []
        if len(found) == 1 and numpy_helper.to_array(found[0]).size == 1:
            return found[0]
    raise ExportError("the graph does not end in logits, a temperature and a softmax")


def set_temperature(model: onnx.ModelProto, temperature: float) -> None:
    """Make the graph divide its logits by this."""
    tensor = temperature_of(model.graph)
    tensor.raw_data = np.float32(temperature).tobytes()


def recalibrate(source: Path, path: Path, seen: Faces, label_set: LabelSet) -> Calibration:
    """Write the graph to `path`, calibrated on images that it has not learned. Raises ExportError."""
    model = onnx.load(str(source))
    set_temperature(model, 1.0)
    onnx.save(model, str(path))
    seen = judged(seen, label_set)
    answers = probabilities(path, seen.images)
    if not (answers > 0).all():  # nor where one is not a number
        raise ExportError("the graph is so sure that its logits cannot be told from its probabilities")
    logits = torch.from_numpy(np.log(answers))
    calibration = calibrate(logits, torch.from_numpy(shares(seen, label_set)))
    set_temperature(model, calibration.temperature)
    onnx.save(model, str(path))
    return calibration


def accepted(
    store: Path, name: str, seen: Faces, tested: Faces, version: str | None = None
) -> manifest.Entry:
    """Calibrate a graph of the store on `seen`; returns its new entry in the manifest, with its figures.

    Raises ExportError, and leaves what was there, where the graph has no temperature.
    """
    entry = manifest.model(store, name)
    file, label_set = entry["file"], entry["label_set"]
    with tempfile.TemporaryDirectory(dir=store) as folder:
        path = Path(folder) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        calibration = recalibrate(store / file, path, seen, label_set)
        measured = report(probabilities(path, tested.images), tested, calibration.uncertain_below, label_set)
        provenance = entry["provenance"] | {"temperature": f"{calibration.temperature:.4f}"}
        entry |= manifest.graph_entry(
            Path(folder),
            file,
            version=version or entry["version"],
            licence=entry["licence"],
            provenance=provenance,
        )
        entry |= {"uncertain_below": round(calibration.uncertain_below, 4), "measured": measured.figures()}
        manifest.update(store, "emotion", {name: entry}, Path(folder))
    return entry


def main() -> None:
    """Parse the command line; write the graph, measure it, and enter it in the manifest and the card."""
    parser = parser_of_data(__doc__)
    parser.add_argument("--model", default="balanced")
    parser.add_argument("--store", type=Path, default=STORE)
    parser.add_argument("--version", help="of the graph (default: that of the one it replaces)")
    arguments = parser.parse_args()
    store, name = arguments.store, arguments.model
    with told("recalibrate"):
        provenance = manifest.model(store, name)["provenance"]
        learned, seen = divided(arguments.data, arguments.ferplus, provenance)
        tested = load(arguments.data, "public_test", arguments.ferplus)
        entry = accepted(store, name, without(seen, learned), tested, arguments.version)
        card.refresh(store)
    print(f"{store / entry['file']}: temperature {entry['provenance']['temperature']}")


if __name__ == "__main__":
    main()
