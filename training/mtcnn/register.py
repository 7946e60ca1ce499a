"""Enter the detector's graphs into the model store's manifest: `python -m training.mtcnn.register`."""

from training import manifest
from training.mtcnn.pictures import STORE

# P-Net and R-Net were the published ones first; the third P-Net learned from sampled levels, and the last of
# each that FER2013's faces are faces. The first O-Net had no second opinion.
VERSIONS = {"pnet": "4", "filter": "4", "rnet": "3", "onet": "3"}
EXTENDED = {
    "data": "weights of the Python package mtcnn 1.0.0 (MIT), see NOTICE; the second opinion: what that says "
    "of photos, also turned, and frames of videos, and where their and FER2013's training faces are",
    "command": "make detector",
}
LEARNED = {
    "data": "what the published P-Net, R-Net and O-Net of mtcnn 1.0.0 answer to photos, frames of videos and "
    "FER2013's training faces, and where those faces are; no other labels",
    "command": "make detector",
}


def main() -> None:
    """Write one entry for each graph of the detector."""
    provenances = {"pnet": LEARNED, "filter": LEARNED, "rnet": LEARNED, "onet": EXTENDED}
    entries = {
        name: manifest.graph_entry(
            STORE, f"mtcnn/{name}.onnx", version=VERSIONS[name], licence="MIT", provenance=provenance
        )
        for name, provenance in provenances.items()
    }
    manifest.update(STORE, "detector", entries)


if __name__ == "__main__":
    main()
