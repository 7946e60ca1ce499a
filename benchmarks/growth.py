"""How an image's cost grows, and what of it the counted arithmetic explains.

    python -m benchmarks.growth [--rounds N] [--images FOLDER] [--out FILE]

Draws the processor time of detection and of classification (one thread, decoding not counted) against
megapixels, faces and `min_face_size`, beside the multiply-adds of P-Net, R-Net and O-Net, counted from what
each was given (the filter's are too few to show). Scenes are mosaics on gray of the test portrait's face.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import interleaved, machine, timed
from benchmarks.workloads import ASTRONAUT
from service.runtime.model_store import DETECTOR_GRAPHS, ModelStore
from service.vision.mtcnn import DetectionParameters, Mtcnn
from service.vision.pipeline import AnalysisOptions
from service.vision.types import DecodedImage, Session, UInt8Array

mpl.use("Agg")
from matplotlib import pyplot as plt

# Multiply-adds of a pyramid level's pixel, or of a crop: kernel times input and output channels, for each
# place of the output, over all layers of `training/mtcnn`. P-Net's first layer moves two pixels at a time.
ONET = 27 * 48 * 46**2 + 288 * 64 * 21**2 + 576 * 64 * 8**2 + 256 * 128 * 3**2 + 1152 * 256 + 256 * 15
OPINION = 256 * 64 * 3**2 + 576 * 64 + 64
COSTS = {
    "pnet": (48 * 16 + 144 * 16 + 144 * 32 + 32 * 5) / 4,
    "rnet": 75 * 32 * 11**2 + 288 * 48 * 9**2 + 192 * 64 * 3**2 + 576 * 128 + 128 * 5,
    "onet": ONET + OPINION,
}
GRAY = 128
FACE, CELL = (150, 40, 300, 190), 160  # the portrait's face, and the side it has in a mosaic
SIDES = (400, 600, 800, 1200, 1600, 2400)  # of square scenes with one face
FACES = (0, 1, 2, 4, 8, 16, 32)
SMALLEST = (20, 28, 40, 60, 80, 120)


class Counting:
    """A session that counts its units: pixels for P-Net, crops for the others."""

    def __init__(self, session: Session, unit: int) -> None:
        self._session, self._dimensions, self.count = session, unit, 0

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """Count, and run."""
        (array,) = inputs.values()
        self.count += int(np.prod(array.shape[: self._dimensions]))
        return self._session.run(inputs)


@dataclass(frozen=True, slots=True)
class Point:
    """One scene: where it lies on its axis, milliseconds, multiply-adds and what they are of."""

    x: float
    detect_ms: float
    classify_ms: float
    multiply_adds: float
    pixels: int
    rnet_crops: int
    onet_crops: int


def scene(side: int, faces: int) -> DecodedImage:
    """(side, side) gray with so many faces in rows."""
    portrait = cv2.imread(str(ASTRONAUT))
    assert portrait is not None
    left, top, right, bottom = FACE
    face = cv2.resize(portrait[top:bottom, left:right, ::-1], (CELL, CELL), interpolation=cv2.INTER_AREA)
    pixels: UInt8Array = np.full((side, side, 3), GRAY, np.uint8)
    columns = side // CELL
    for index in range(faces):
        row, column = divmod(index, columns)
        pixels[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = face
    return DecodedImage(pixels, side, side, "png", 1)


def count(store: ModelStore, image: DecodedImage, smallest: float) -> dict[str, int]:
    """What each of the detector's graphs is given for this scene."""
    entries = store.manifest.detector
    counting = {
        name: Counting(store.session(entries[name]), 3 if name == "pnet" else 1) for name in DETECTOR_GRAPHS
    }
    Mtcnn(*counting.values()).detect(image, DetectionParameters(smallest))
    return {name: counting[name].count for name in COSTS}


def measure(
    store: ModelStore, scenes: Mapping[float, tuple[DecodedImage, float]], rounds: int
) -> list[Point]:
    """One point for each scene: image and smallest face."""
    pipeline = store.pipeline()
    clocks = {}
    for x, (image, smallest) in scenes.items():
        options = AnalysisOptions(min_face_size=smallest)
        found = pipeline.detect(image, options)
        clocks[x, "detect"] = partial(timed, partial(pipeline.detect, image, options), "cpu")
        clocks[x, "classify"] = partial(timed, partial(pipeline.describe, image, found, options), "cpu")
    took = interleaved(clocks, rounds)
    points = []
    for x, (image, smallest) in scenes.items():
        units = count(store, image, smallest)
        total = sum(COSTS[name] * number for name, number in units.items())
        points.append(Point(x, took[x, "detect"], took[x, "classify"], total, *units.values()))
    return points


def draw(points: Sequence[Point], label: str, path: Path) -> None:
    """Times and multiply-adds above each other on the axis that `label` names."""
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(6, 5), layout="constrained")
    xs = [point.x for point in points]
    above.plot(xs, [point.detect_ms for point in points], "o-", label="detection")
    above.plot(xs, [point.classify_ms for point in points], "s--", label="crops and emotions")
    above.set(ylabel="CPU time, ms", ylim=(0, None))
    above.legend()
    below.plot(xs, [point.multiply_adds / 1e6 for point in points], "o-", label="all three graphs")
    below.plot(xs, [COSTS["pnet"] * point.pixels / 1e6 for point in points], ":", label="of these P-Net")
    below.set(xlabel=label, ylabel="multiply-adds of\ndetection, millions", ylim=(0, None))
    below.legend()
    for axes in (above, below):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def slope(points: Sequence[Point]) -> float:
    """Nanoseconds of detection for a thousand multiply-adds, by least squares."""
    ms, work = ([getattr(point, name) for point in points] for name in ("detect_ms", "multiply_adds"))
    return float(np.polyfit(work, ms, 1)[0]) * 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--images", type=Path, default=Path("docs/images"))
    parser.add_argument("--out", type=Path, default=Path("docs/measured/growth.json"))
    options = parser.parse_args()
    store = ModelStore.open()
    results: dict[str, Any] = {"machine": machine()}
    series = {
        "megapixels": (
            {side * side / 1e6: (scene(side, 1), 40.0) for side in SIDES},
            "megapixels, one face, from 40 pixels",
        ),
        "faces": (
            {float(faces): (scene(1000, faces), 40.0) for faces in FACES},
            "faces in one megapixel, from 40 pixels",
        ),
        "smallest": (
            {float(size): (scene(1000, 1), float(size)) for size in SMALLEST},
            "min_face_size, one megapixel, one face",
        ),
    }
    for name, (scenes, label) in series.items():
        points = measure(store, scenes, options.rounds)
        draw(points, label, options.images / f"perf-{name}.png")
        results[name] = [asdict(point) for point in points]
        print(f"{label}: {slope(points):.0f} ns for a thousand multiply-adds")
        for point in points:
            print(f"  {point.x:g}: {point.detect_ms:.1f} ms, {point.multiply_adds / 1e6:.0f} M", flush=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
