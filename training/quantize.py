"""The 8-bit form of a variant: smaller, and faster where the processor multiplies bytes.

`python -m training.quantize --variant balanced --data fer2013.csv`

Static quantization after training (Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", 2018): a scale for each output channel of the weights, and for each
activation one that fits what training images give.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from service.vision.types import UInt8Array
from training import card, manifest
from training.arguments import parser_of_data, told
from training.data import Faces, load
from training.evaluate import STORE, probabilities
from training.graph import save
from training.manifest import ExportError
from training.metrics import public, report
from training.recipe import SERVED

CALIBRATION_IMAGES = 512
BATCH = 64
SUFFIX = "-int8"
MOST_LOST = 0.003
# Of a graph's provenance, what is as true of its 8-bit form: what it learned from, and what was held out.
LEARNED = ("data", "images", "held_out", "seed")
# The classifier and its softmax stay in 32 bits: probabilities in steps of 1/255 would not sum to one.
FEATURES = ["Conv", "Relu", "Split", "Concat"]


class _Crops(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: UInt8Array) -> None:
        parts = (images[start : start + BATCH, None] for start in range(0, len(images), BATCH))
        self._batches: Iterator[UInt8Array] = parts

    def get_next(self) -> dict[str, UInt8Array] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"crops": np.ascontiguousarray(batch)}


def quantize(source: Path, path: Path, images: UInt8Array) -> None:
    """Write the 8-bit form of a graph, with the ranges that its activations have on images (N, 48, 48)."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(path),
            _Crops(images),
            op_types_to_quantize=FEATURES,
            per_channel=True,
            # Seven bits: AVX2 alone adds two products of bytes in 16, which those of eight can overflow.
            reduce_range=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            # Without the rarest extremes, which would make the steps of all other values coarser.
            calibrate_method=CalibrationMethod.Percentile,
        )
    save(onnx.load(str(path)), path)


def accepted(store: Path, variant: str, learned: Faces, tested: Faces) -> manifest.Entry:
    """Put the 8-bit form of a variant beside it, and into the manifest; returns its entry, with its figures.

    Raises ExportError, and leaves what was there, where it loses more than MOST_LOST.
    """
    whole = manifest.model(store, variant)
    file = f"emotion/{variant}{SUFFIX}.onnx"
    drawn = np.random.default_rng(0).permutation(len(learned))[:CALIBRATION_IMAGES]
    with tempfile.TemporaryDirectory(dir=store) as folder:
        path = Path(folder) / file
        path.parent.mkdir()
        quantize(store / whole["file"], path, learned.images[np.sort(drawn)])
        # Of the same images: the manifest's figure may be of others.
        before, after = (
            report(probabilities(graph, tested.images), tested, whole["uncertain_below"], whole["label_set"])
            for graph in (store / whole["file"], path)
        )
        lost = before.accuracy - after.accuracy
        if lost > MOST_LOST:
            raise ExportError(f"{variant} in 8 bits loses {lost:.2%} of accuracy, more than {MOST_LOST:.1%}")
        entry = _entry(Path(folder), file, variant, whole) | {"measured": after.figures()}
        manifest.update(store, "emotion", {f"{variant}{SUFFIX}": entry}, Path(folder))
    return entry


def _entry(made: Path, file: str, variant: str, whole: manifest.Entry) -> manifest.Entry:
    """What the manifest says of the 8-bit form of a variant, whose own entry is `whole`; not yet measured."""
    provenance = {
        **{key: value for key, value in whole["provenance"].items() if key in LEARNED},
        "command": f"make quantize MODEL={variant}",
        "quantized_from": f"sha256:{whole['sha256']}",
    }
    entry = manifest.graph_entry(
        made, file, version=whole["version"], licence=whole["licence"], provenance=provenance
    )
    return entry | {key: whole[key] for key in ("labels", "label_set", "uncertain_below")}


def accuracy(entry: manifest.Entry) -> float:
    """On the public test split, by the label set that the graph answers by."""
    return float(entry["measured"][f"{public(entry['label_set'])}_accuracy"])


def main() -> None:
    """Parse the command line; write the graph, measure it, and enter it in the manifest and the card."""
    parser = parser_of_data(__doc__)
    parser.add_argument("--variant", choices=SERVED, default="balanced")
    parser.add_argument("--store", type=Path, default=STORE)
    arguments = parser.parse_args()
    variant, store = arguments.variant, arguments.store
    with told("quantize"):
        splits = (load(arguments.data, split, arguments.ferplus) for split in ("train", "public_test"))
        entry = accepted(store, variant, *splits)
        card.refresh(store)
    print(f"{store / entry['file']}: {entry['bytes']} bytes, accuracy {accuracy(entry):.2%} on public_test")


if __name__ == "__main__":
    main()
