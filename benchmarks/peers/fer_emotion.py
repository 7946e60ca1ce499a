"""What the emotion classifier of the package `fer` answers, run in an environment of its own.

    python benchmarks/peers/fer_emotion.py IMAGES.npy ANSWERS.npy

Images are (N, 48, 48) uint8, answers (N, 7) in the order angry, disgust, fear, happy, sad, surprise, neutral.
The classifier is the one that the package takes by itself, and sees what it shows it of a face: 64x64 pixels
in -1..1. Its own answers are rounded to hundredths; these are not, so that none is tied.
"""

import importlib
import sys

import cv2
import numpy as np

SIDE, BATCH = 64, 256


def main() -> None:
    images, classifier = np.load(sys.argv[1]), importlib.import_module("fer.fer").FER()
    enlarged = np.stack([cv2.resize(image, (SIDE, SIDE)) for image in images]).astype(np.float32)
    shown = (enlarged / 255 - 0.5) * 2
    parts = [shown[start : start + BATCH] for start in range(0, len(shown), BATCH)]
    np.save(sys.argv[2], np.concatenate([classifier._classify_emotions(part) for part in parts]))


if __name__ == "__main__":
    main()
