"""Measure a graph of the model store on FER2013.

`python -m training.evaluate --model balanced --data fer2013.csv`
"""

from pathlib import Path

import numpy as np
import onnxruntime as ort

from service.vision.types import Float32Array, UInt8Array
from training import manifest
from training.arguments import parser_of_data, told
from training.data import load
from training.manifest import StoreError
from training.metrics import Report, report

STORE = Path(__file__).parents[1] / "model_store"


def opened(graph: Path, options: ort.SessionOptions | None = None) -> ort.InferenceSession:
    """A session of a graph. Raises StoreError where the file is none, OSError where there is no file."""
    data = graph.read_bytes()
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    # ONNX Runtime has an error of its own for each way in which a file can be wrong.
    except Exception as error:
        raise StoreError(f"{graph} is no whole ONNX graph") from error


def probabilities(graph: Path, images: UInt8Array, batch: int = 256) -> Float32Array:
    """One forward pass for each of (N, 48, 48) images -> (N, 7)."""
    session = opened(graph)
    starts = range(0, len(images), batch)
    return np.concatenate([session.run(None, {"crops": images[i : i + batch, None]})[0] for i in starts])


def evaluate(store: Path, model: str, data: Path, split: str, ferplus: Path | None = None) -> Report:
    """The figures of a model of the store on one split."""
    entry = manifest.model(store, model)
    faces = load(data, split, ferplus)
    answers = probabilities(store / entry["file"], faces.images)
    return report(answers, faces, entry["uncertain_below"], entry["label_set"])


def main() -> None:
    """Parse the command line and print the table."""
    parser = parser_of_data(__doc__)
    parser.add_argument("--model", default="balanced")
    parser.add_argument("--split", default="public_test", choices=("public_test", "private_test"))
    parser.add_argument("--store", type=Path, default=STORE)
    arguments = parser.parse_args()
    with told("evaluate"):
        found = evaluate(arguments.store, arguments.model, arguments.data, arguments.split, arguments.ferplus)
    print(f"{arguments.model} on {arguments.split}\n{found.text()}")


if __name__ == "__main__":
    main()
