"""Enter the detector's graphs into the model store's manifest: `python -m training.mtcnn.register`."""

from pathlib import Path

from training import manifest
from training.mtcnn.pictures import STORE

# P-Net and R-Net were the published ones first; the third P-Net learned from sampled levels, and the last of
# each that FER2013's faces are faces. The first O-Net had no second opinion.
VERSIONS = {"pnet": "4", "filter": "4", "rnet": "3", "onet": "3"}
PACKAGE = "weights of the Python package mtcnn 1.0.0 (MIT), see NOTICE"
SHOWN = "photos, half of the 200 of WIDER FACE among them, frames of videos and FER2013's training faces"
LEARNED = (
    f"began with {PACKAGE}; learned what its P-Net, R-Net and O-Net answer to {SHOWN}, and where those faces "
    "are; no other labels"
)
DATA = {
    "pnet": LEARNED,
    "filter": f"what this project's P-Net and R-Net, and O-Net, answer to {SHOWN}; no labels",
    "rnet": LEARNED,
    "onet": f"{PACKAGE}; the second opinion: what that says of {SHOWN}, photos also turned, and where "
    "their faces and those of FER2013 are",
}


def entries(store: Path) -> dict[str, manifest.Entry]:
    """What the manifest says of each graph of the detector."""
    return {
        name: manifest.graph_entry(
            store,
            f"mtcnn/{name}.onnx",
            version=version,
            licence="MIT",
            provenance={"data": DATA[name], "command": "make detector"},
        )
        for name, version in VERSIONS.items()
    }


def main() -> None:
    """Write one entry for each graph of the detector."""
    manifest.update(STORE, "detector", entries(STORE))


if __name__ == "__main__":
    main()
