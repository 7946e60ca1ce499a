"""Put the detector's graphs into the model store and its manifest.

    python -m training.mtcnn.register --store COPY

They were made in a copy of the store: one with some graphs of another detector is refused by the service.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from training import manifest
from training.arguments import told
from training.mtcnn.pictures import STORE

# P-Net and R-Net were the published ones first; the third P-Net learned from sampled levels, and the last of
# each that FER2013's faces are faces. The first O-Net had no second opinion.
VERSIONS = {"pnet": "4", "filter": "4", "rnet": "3", "onet": "3"}
FOLDER = "mtcnn"
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
            f"{FOLDER}/{name}.onnx",
            version=version,
            licence="MIT",
            provenance={"data": DATA[name], "command": "make detector"},
        )
        for name, version in VERSIONS.items()
    }


def register(copy: Path, store: Path) -> None:
    """Take the detector's graphs over from a copy of the store."""
    found = entries(copy)
    with tempfile.TemporaryDirectory(dir=store) as folder:
        (Path(folder) / FOLDER).mkdir()
        for entry in found.values():
            shutil.copyfile(copy / entry["file"], Path(folder) / entry["file"])
        manifest.update(store, "detector", found, Path(folder))


def main() -> None:
    """Parse the command line, and change the store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--store", type=Path, default=STORE, help="the copy; of the store itself, its manifest"
    )
    with told("register"):
        register(parser.parse_args().store, STORE)


if __name__ == "__main__":
    main()
