"""Haar-cascade boxes, for the report's comparison; run by `training.report` with a Python that has OpenCV 4.

`python training/haar.py scenes.npy boxes.json`: gray scenes (N, H, W) uint8 -> for each its boxes
[x1, y1, x2, y2], by the frontal-face cascade that ships with OpenCV 4 and its usual settings.
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np


def main() -> None:
    """Read the scenes, write the boxes."""
    scenes, out = (Path(argument) for argument in sys.argv[1:3])
    folder = Path(cv2.data.haarcascades)  # type: ignore[attr-defined]
    cascade = cv2.CascadeClassifier(str(folder / "haarcascade_frontalface_default.xml"))  # type: ignore[attr-defined]
    boxes = [
        [[int(x), int(y), int(x + width), int(y + height)] for x, y, width, height in found]
        for found in (cascade.detectMultiScale(scene, 1.1, 5, minSize=(40, 40)) for scene in np.load(scenes))
    ]
    out.write_text(json.dumps(boxes))


if __name__ == "__main__":
    main()
