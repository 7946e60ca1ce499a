"""facenet-pytorch's MTCNN, run in an environment of its own.

    python benchmarks/peers/facenet.py MIN_FACE_SIZE < paths.txt > detections.json

Paths come one a line; the answer is {path: [[x, y, width, height, confidence], ...]}. Needs facenet-pytorch
and torch. Where torchvision does not load beside that torch, the one function the detector uses of it is
supplied.
"""

import importlib
import json
import sys
from types import ModuleType

import numpy as np
import torch
from PIL import Image

THRESHOLDS, FACTOR = [0.6, 0.7, 0.7], 0.709


def batched_nms(
    boxes: torch.Tensor, scores: torch.Tensor, groups: torch.Tensor, threshold: float
) -> torch.Tensor:
    """Greedy suppression by intersection over union within each group; kept indices, best first."""
    corners, labels = boxes.numpy(), groups.numpy()
    area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    order, kept = np.argsort(-scores.numpy(), kind="stable"), []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(int(best))
        sides = np.minimum(corners[best, 2:], corners[order, 2:]) - np.maximum(
            corners[best, :2], corners[order, :2]
        )
        shared = sides.clip(0).prod(axis=1)
        apart = shared <= threshold * (area[best] + area[order] - shared)
        order = order[apart | (labels[order] != labels[best])]
    return torch.tensor(kept, dtype=torch.long)


def supply_torchvision() -> None:
    """Stand in for torchvision.ops.boxes.batched_nms where torchvision is missing or does not load."""
    try:
        importlib.import_module("torchvision.ops.boxes")
        return
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
    modules = {name: ModuleType(name) for name in TORCHVISION}
    vars(modules["torchvision.ops.boxes"])["batched_nms"] = batched_nms
    vars(modules["torchvision.transforms"])["functional"] = modules["torchvision.transforms.functional"]
    vars(modules["torchvision"])["transforms"] = modules["torchvision.transforms"]
    sys.modules.update(modules)


TORCHVISION = [
    "torchvision",
    "torchvision.ops",
    "torchvision.ops.boxes",
    "torchvision.transforms",
    "torchvision.transforms.functional",
    "torchvision.datasets",
    "torchvision.datasets.utils",
]


def main() -> None:
    supply_torchvision()
    package = importlib.import_module("facenet_pytorch.models.mtcnn")
    size = int(sys.argv[1])
    detector = package.MTCNN(min_face_size=size, thresholds=THRESHOLDS, factor=FACTOR, keep_all=True)
    answer = {}
    for path in sys.stdin.read().splitlines():
        boxes, confidences = detector.detect(Image.open(path).convert("RGB"))
        found = [] if boxes is None else zip(boxes.tolist(), confidences.tolist(), strict=True)
        answer[path] = [[x1, y1, x2 - x1, y2 - y1, score] for (x1, y1, x2, y2), score in found]
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
