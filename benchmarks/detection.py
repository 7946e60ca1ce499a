"""Recall and precision of the detector on a subset of WIDER FACE, beside facenet-pytorch's MTCNN.

    python -m benchmarks.detection --data ../shared/data/detection/wider_subset [--min-face-size 20]
        [--peer-python PATH] [--unseen] [--turned DEGREES] [--gray]

The set is a folder with `boxes.tsv` (columns path, x, y, w, h, invalid) and the images it names. A
detection is right when its intersection over union with a face is at least 0.5; the most certain detections
choose first. Faces lower than 20 pixels, and those marked invalid, count neither as found nor as missed;
detections lower than that are not counted as false. `overlap` is the mean over the faces found. The peer has
the same smallest face and thresholds, and the published pyramid; its boxes are cut at the image's edges, as
this project's are. It runs under the Python given by --peer-python, which needs facenet-pytorch, and is left
out without it. With --turned all photos are turned about their middle, counter-clockwise, and each face's box
is what holds the ellipse that its upright box holds, turned likewise. With --gray they lose their colors.
"""

import argparse
import csv
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from json import loads
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.runtime.model_store import load_pipeline
from service.vision.boxes import overlap
from service.vision.mtcnn import DetectionParameters, Mtcnn
from service.vision.types import DecodedImage, UInt8Array

LEAST_OVERLAP, LEAST_HEIGHT = 0.5, 20
PEER = Path(__file__).parent / "peers" / "facenet.py"

# Rows x, y, width, height, confidence of each image.
Detections = Mapping[str, Sequence[Sequence[float]]]


@dataclass(frozen=True)
class Truth:
    """The faces of one image: boxes (N, 4) of x1, y1, x2, y2, and which of them count (N,)."""

    boxes: NDArray[np.float32]
    counts: NDArray[np.bool_]


@dataclass(frozen=True)
class Score:
    """Faces that count, those found, detections of nothing, and how much those found overlap, added up."""

    faces: int = 0
    found: int = 0
    false: int = 0
    shared: float = 0.0

    def __add__(self, other: "Score") -> "Score":
        return Score(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))

    def __str__(self) -> str:
        recall, precision = self.found / max(self.faces, 1), self.found / max(self.found + self.false, 1)
        closeness = self.shared / max(self.found, 1)
        return f"{recall:.4f} | {precision:.4f} | {closeness:.3f} | {self.found} | {self.false}"


def turn(
    source: Path, truth: Mapping[str, Truth], degrees: float, target: Path, *, gray: bool
) -> dict[str, Truth]:
    """Write the photos, turned, and tell where their faces are."""
    faces = {}
    for path, known in truth.items():
        pixels = cv2.imread(str(source / path), cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR)
        assert pixels is not None, path
        leaning, matrix = turned(np.asarray(pixels, np.uint8), degrees)
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target / path), leaning)
        faces[path] = Truth(turned_boxes(known.boxes, matrix), known.counts)
    return faces


def turned(pixels: UInt8Array, degrees: float) -> tuple[UInt8Array, NDArray[np.float64]]:
    """(H, W, ...) pixels turned about their middle, as large as that asks for; (2, 3) where a point goes."""
    height, width = pixels.shape[:2]
    matrix = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0), np.float64)
    room = np.ceil(np.abs(matrix[:, :2]) @ (width, height)).astype(int)
    matrix[:, 2] += (room - (width, height)) / 2
    return np.asarray(cv2.warpAffine(pixels, matrix, room.tolist(), flags=cv2.INTER_CUBIC), np.uint8), matrix


def turned_boxes(boxes: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """(N, 4) what holds the ellipses in boxes (N, 4), turned."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 @ matrix[:, :2].T + matrix[:, 2]
    halves = np.sqrt(((boxes[:, 2:] - boxes[:, :2]) / 2) ** 2 @ (matrix[:, :2] ** 2).T)
    return np.hstack([centres - halves, centres + halves]).astype(np.float32)


def read_truth(folder: Path) -> dict[str, Truth]:
    rows = defaultdict(list)
    with (folder / "boxes.tsv").open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            box = [float(row[name]) for name in ("x", "y", "w", "h")]
            rows[row["path"]].append([*box, box[3] >= LEAST_HEIGHT and row["invalid"] != "1"])
    return {path: Truth(corners(values), np.array(values)[:, 4] > 0) for path, values in rows.items()}


def corners(rows: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    """x, y, width, height, ... (N, 4 or more) to x1, y1, x2, y2 (N, 4)."""
    table = np.array(rows, np.float32).reshape(len(rows), -1)
    return np.hstack([table[:, :2], table[:, :2] + table[:, 2:4]])


def score_image(truth: Truth, detections: Sequence[Sequence[float]]) -> Score:
    """Greedy matching: each detection takes the free face that it overlaps most, if it does so enough."""
    ordered = sorted(detections, key=lambda row: -row[4])
    found, false, shared, free = 0, 0, 0.0, np.ones(len(truth.boxes), np.bool_)
    for row in ordered:
        shares = np.where(free, overlap(corners([row])[0], truth.boxes), -1)
        best = int(shares.argmax())
        if shares[best] >= LEAST_OVERLAP:
            free[best] = False
            found += int(truth.counts[best])
            shared += float(shares[best] * truth.counts[best])
        else:
            false += int(row[3] >= LEAST_HEIGHT)
    return Score(int(truth.counts.sum()), found, false, shared)


def score(truth: Mapping[str, Truth], detections: Detections) -> Score:
    return sum((score_image(truth[path], detections[path]) for path in truth), Score())


def run_ours(detector: Mtcnn, folder: Path, paths: Iterable[str], size: int) -> tuple[Detections, float]:
    """Detections, and the CPU milliseconds an image takes on average (decoding not counted)."""
    found, seconds = {}, 0.0
    for path in paths:
        pixels = np.asarray(Image.open(folder / path).convert("RGB"))
        image = DecodedImage(pixels, pixels.shape[1], pixels.shape[0], "jpeg", 1)
        start = time.process_time()
        faces = detector.detect(image, DetectionParameters(min_face_size=size))
        seconds += time.process_time() - start
        boxes = ((face.box, face.confidence) for face in faces)
        found[path] = [(box.x, box.y, box.width, box.height, sure) for box, sure in boxes]
    return found, seconds / len(found) * 1000


def run_peer(python: Path, folder: Path, paths: Iterable[str], size: int) -> Detections:
    command = [str(python.absolute()), str(PEER.resolve()), str(size)]
    listing = "\n".join(paths)
    answer = subprocess.run(command, input=listing, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    found: Detections = loads(answer.stdout)
    return {path: inside(rows, *Image.open(folder / path).size) for path, rows in found.items()}


def inside(rows: Iterable[Sequence[float]], width: int, height: int) -> list[list[float]]:
    """What of each box lies in the image."""
    parts = []
    for x, y, across, down, sure in rows:
        left, top = max(0.0, x), max(0.0, y)
        right, bottom = min(width, x + across), min(height, y + down)
        if left < right and top < bottom:
            parts.append([left, top, right - left, bottom - top, sure])
    return parts


def compare(
    detector: Mtcnn, folder: Path, truth: Mapping[str, Truth], sizes: Sequence[int], peer: Path | None
) -> None:
    """Print a row for each detector and smallest face."""
    print("| detector | smallest face | recall | precision | overlap | found | false | CPU ms per image |")
    print("|---|---|---|---|---|---|---|---|")
    for size in sizes:
        ours, took = run_ours(detector, folder, truth, size)
        print(f"| this project | {size} | {score(truth, ours)} | {took:.0f} |")
        if peer:
            print(f"| facenet-pytorch | {size} | {score(truth, run_peer(peer, folder, truth, size))} | |")


def main() -> None:
    parser = argparse.ArgumentParser(description="Recall and precision of the face detector.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/detection/wider_subset"))
    parser.add_argument(
        "--min-face-size", type=int, action="append", help="repeatable; 20 and 40 if not given"
    )
    parser.add_argument(
        "--unseen", action="store_true", help="every second photo, which taught the detector nothing"
    )
    parser.add_argument("--turned", type=float, default=0.0, metavar="DEGREES", help="turn the photos first")
    parser.add_argument("--gray", action="store_true", help="take their colors away first")
    parser.add_argument("--peer-python", type=Path, help="Python of an environment with facenet-pytorch")
    arguments = parser.parse_args()
    if not (arguments.data / "boxes.tsv").exists():
        parser.error(f"no boxes.tsv in {arguments.data}: pass --data")
    truth, detector = read_truth(arguments.data), load_pipeline().detector
    if arguments.unseen:
        truth = {path: truth[path] for path in sorted(truth)[1::2]}
    sizes = arguments.min_face_size or (20, 40)
    if not (arguments.turned or arguments.gray):
        compare(detector, arguments.data, truth, sizes, arguments.peer_python)
    else:
        with TemporaryDirectory() as folder:
            moved = turn(arguments.data, truth, arguments.turned, Path(folder), gray=arguments.gray)
            compare(detector, Path(folder), moved, sizes, arguments.peer_python)
    if not arguments.peer_python:
        print("\nfacenet-pytorch is left out: pass --peer-python to measure it too.")


if __name__ == "__main__":
    main()
