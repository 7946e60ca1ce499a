"""Record what other programs make of the same weights, for the tests of the graphs and of the cascade.

    python -m training.mtcnn.record_golden mtcnn      # needs mtcnn 1.0.0 with its TensorFlow, and Pillow
    python -m training.mtcnn.record_golden facenet    # needs facenet-pytorch with torch, and Pillow

Each peer runs in an environment of its own. The first command starts
`tests/vision/golden/mtcnn.npz` with the inputs, which are the test photo and noise from a seed; both add
their outputs under their own name:

| array | what |
|---|---|
| `pnet_photo`, `pnet_noise`, `rnet`, `onet` | inputs, uint8 RGB (N, H, W, 3) |
| `PEER_pnet_photo_probability`, `..._box`, and so on | outputs as `training/mtcnn/build.py` describes them |
| `squares`, `mtcnn_squares_landmarks` | O-Net run on these squares (K, 4) of the photo: landmarks (K, 5, 2) |
| `PEER_box`, `PEER_landmarks` | the whole cascade on the photo, smallest face 20: (N, 4) and (N, 5, 2) |
"""

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "tests" / "data" / "astronaut.jpg"
GOLDEN = ROOT / "tests" / "vision" / "golden" / "mtcnn.npz"

Arrays = dict[str, NDArray[Any]]
# Normalised images (N, H, W, 3) of one network to probability, box and, for O-Net, landmarks (N, 10).
Network = Callable[[str, NDArray[np.float32]], list[NDArray[np.float32]]]

# About the face of the photo, in and out of step with it.
SQUARES = [
    (165, 60, 279, 174),
    (172, 66, 270, 164),
    (160, 50, 290, 180),
    (180, 70, 285, 175),
    (150, 62, 264, 176),
]


def photo() -> Image.Image:
    return Image.open(PHOTO).convert("RGB")


def patches(side: int) -> NDArray[np.uint8]:
    """The squares of the photo, and as many patches of noise."""
    crops = [photo().crop(square).resize((side, side), Image.Resampling.BOX) for square in SQUARES]
    noise = np.random.default_rng(side).integers(0, 256, (len(crops), side, side, 3), np.uint8)
    return np.concatenate([np.stack([np.asarray(crop) for crop in crops]), noise])


def inputs() -> Arrays:
    small = photo().resize((72, 72), Image.Resampling.BOX)
    noise = np.random.default_rng(0).integers(0, 256, (1, 33, 46, 3), np.uint8)
    return {
        "pnet_photo": np.asarray(small)[None],
        "pnet_noise": noise,
        "rnet": patches(24),
        "onet": patches(48),
        "squares": np.array(SQUARES, np.float32),
    }


def pairs(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """x1..x5 y1..y5 (N, 10) to (N, 5, 2)."""
    return landmarks.reshape(-1, 2, 5).transpose(0, 2, 1)


def normalise(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return (pixels.astype(np.float32) - np.float32(127.5)) / np.float32(128)


def continuous(landmarks: NDArray[np.float32], squares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Undo the package's counting of pixels from one, which makes squares wider and points less by one."""
    corners, sides = squares[:, None, :2], squares[:, None, 2:] - squares[:, None, :2]
    moved: NDArray[np.float32] = corners + (landmarks - corners + 1) / (sides + 1) * sides
    return moved


def network_outputs(run: Network, peer: str, arrays: Arrays) -> Arrays:
    """Every input through its network."""
    found: Arrays = {}
    for name in ("pnet_photo", "pnet_noise", "rnet", "onet"):
        normalised = normalise(arrays[name])
        probability, box, *landmarks = run(name.split("_")[0], normalised)
        found |= {f"{peer}_{name}_probability": probability, f"{peer}_{name}_box": box}
        if landmarks:
            found[f"{peer}_{name}_landmarks"] = pairs(landmarks[0])
    return found


def record_mtcnn(arrays: Arrays) -> Arrays:
    detector = importlib.import_module("mtcnn").MTCNN()
    names = ("pnet", "rnet", "onet")
    stages = {name: detector.get_stage(stage_id=number) for number, name in enumerate(names, 1)}

    def run(name: str, normalised: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        box, *landmarks, classes = (output.numpy() for output in stages[name].model(normalised))
        return [classes[..., 1], box, *landmarks]

    whole = normalise(np.asarray(photo())[None])
    rows = [np.array([[0, *square, 1]], np.float32) for square in arrays["squares"]]
    marked = [stages["onet"](whole, row, threshold_onet=0.0)[0, 6:] for row in rows]
    faces = detector.detect_faces(
        np.asarray(photo()), box_format="xyxy", output_type="numpy", min_face_size=20, threshold_onet=0.7
    )
    return network_outputs(run, "mtcnn", arrays) | {
        "mtcnn_squares_landmarks": continuous(pairs(np.stack(marked)), arrays["squares"]),
        "mtcnn_box": faces[:, 1:5],
        "mtcnn_landmarks": pairs(faces[:, 6:]),
    }


def record_facenet(arrays: Arrays) -> Arrays:
    torch = importlib.import_module("torch")
    importlib.import_module("benchmarks.peers.facenet").supply_torchvision()
    detector = importlib.import_module("facenet_pytorch.models.mtcnn").MTCNN(min_face_size=20, keep_all=True)

    def run(name: str, normalised: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        with torch.no_grad():
            outputs = getattr(detector, name)(torch.from_numpy(normalised.transpose(0, 3, 1, 2).copy()))
        box, *landmarks, classes = (output.numpy() for output in outputs)
        return [classes[:, 1], np.moveaxis(box, 1, -1), *landmarks]

    box, _, landmarks = detector.detect(photo(), landmarks=True)
    return network_outputs(run, "facenet", arrays) | {"facenet_box": box, "facenet_landmarks": landmarks}


def main() -> None:
    parser = argparse.ArgumentParser(description="Record a peer's outputs.")
    parser.add_argument("peer", choices=["mtcnn", "facenet"])
    if parser.parse_args().peer == "mtcnn":
        arrays = inputs()
        arrays |= record_mtcnn(arrays)
    else:
        arrays = dict(np.load(GOLDEN))
        arrays |= record_facenet(arrays)
    stored: Arrays = {
        key: array if array.dtype == np.uint8 else array.astype(np.float32) for key, array in arrays.items()
    }
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(GOLDEN, allow_pickle=False, **stored)
    print(f"{GOLDEN.relative_to(ROOT)}: {len(stored)} arrays, {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main()
