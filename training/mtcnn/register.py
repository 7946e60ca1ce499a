"""Enter the detector's graphs into the model store's manifest: `python -m training.mtcnn.register`."""

from pathlib import Path

from training import manifest

STORE = Path(__file__).parents[2] / "model_store"
PROVENANCE = {
    "data": "weights of the Python package mtcnn 1.0.0 (MIT); graphs written by this project, see NOTICE",
    "command": "make models-mtcnn",
}


def main() -> None:
    """Write one entry for each graph that `training.mtcnn.build` made."""
    entries = {
        name: manifest.graph_entry(
            STORE, f"mtcnn/{name}.onnx", version="1", licence="MIT", provenance=PROVENANCE
        )
        for name in ("pnet", "rnet", "onet")
    }
    manifest.update(STORE, "detector", entries)


if __name__ == "__main__":
    main()
