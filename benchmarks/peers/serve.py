"""One peer, in an environment of its own, timed on request: `python -m benchmarks.peers.serve NAME`.

Each line of standard input is {"image": PATH, "min_face_size": PIXELS, "clock": "wall" or "cpu"}, PATH being
a .npy of (H, W, 3) uint8 RGB; each line of standard output is {"ms": ..., "faces": ...}. The first line of
output is {"ready": true}, or {"error": TEXT} where the peer cannot run here. Arrays are loaded and turned
into what the peer takes before the clock starts.
"""

import importlib
import json
import logging
import os
import sys
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
# Image in the peer's own form and the smallest face, to the number of faces found.
Detect = Callable[[Any, int], int]
Prepare = Callable[[Pixels], Any]

THRESHOLDS, FACTOR = [0.6, 0.7, 0.7], 0.709  # this project's thresholds, the published factor
HAAR = {"scaleFactor": 1.1, "minNeighbors": 5}


def bgr(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels[..., ::-1])


def pillow(pixels: Pixels) -> Any:
    return importlib.import_module("PIL.Image").fromarray(pixels)


def facenet() -> tuple[Prepare, Detect]:
    importlib.import_module("benchmarks.peers.facenet").supply_torchvision()
    package = importlib.import_module("facenet_pytorch.models.mtcnn")
    detector = package.MTCNN(thresholds=THRESHOLDS, factor=FACTOR, keep_all=True)

    def detect(image: Any, size: int) -> int:
        detector.min_face_size = size
        boxes, _ = detector.detect(image)
        return 0 if boxes is None else len(boxes)

    return pillow, detect


def mtcnn() -> tuple[Prepare, Detect]:
    detector = importlib.import_module("mtcnn").MTCNN()
    first, second, third = THRESHOLDS

    def detect(image: Any, size: int) -> int:
        found = detector.detect_faces(
            image,
            min_face_size=size,
            scale_factor=FACTOR,
            threshold_pnet=first,
            threshold_rnet=second,
            threshold_onet=third,
        )
        return len(found)

    return np.asarray, detect


def fer(mtcnn: bool) -> tuple[Prepare, Detect]:
    """Detection and emotion. With MTCNN it is facenet-pytorch's, and the smallest face is set on that."""
    importlib.import_module("benchmarks.peers.facenet").supply_torchvision()
    logging.disable(logging.INFO)
    package = importlib.import_module("fer.fer")
    whole = package.FER(mtcnn=mtcnn, min_face_size=40)

    def detect(image: Any, size: int) -> int:
        if mtcnn:
            whole._mtcnn.min_face_size = size
        else:
            whole._FER__min_face_size = size
        return len(whole.detect_emotions(image))

    return bgr, detect


def haar() -> tuple[Prepare, Detect]:
    cv2 = importlib.import_module("cv2")
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")

    def detect(image: Any, size: int) -> int:
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        return len(cascade.detectMultiScale(gray, minSize=(size, size), **HAAR))

    return np.asarray, detect


def yunet() -> tuple[Prepare, Detect]:
    """YuNet at full size; it has no smallest face to set, so smaller ones than asked for are not counted."""
    cv2 = importlib.import_module("cv2")
    detector = cv2.FaceDetectorYN.create(os.environ["YUNET"], "", (320, 320), 0.7)

    def detect(image: Any, size: int) -> int:
        detector.setInputSize(image.shape[1::-1])
        _, faces = detector.detect(image)
        return 0 if faces is None else int((faces[:, 3] >= size).sum())

    return bgr, detect


def deepface(backend: str) -> tuple[Prepare, Detect]:
    """Detection and emotion, at the package's own smallest face: it has no setting for it."""
    package = importlib.import_module("deepface").DeepFace

    def detect(image: Any, _: int) -> int:
        answer = package.analyze(
            image, actions=["emotion"], detector_backend=backend, enforce_detection=False, silent=True
        )
        # Where it finds no face, it answers for the whole image, with this confidence.
        return sum(face["face_confidence"] != 0 for face in answer)

    return bgr, detect


PEERS: dict[str, Callable[[], tuple[Prepare, Detect]]] = {
    "facenet": facenet,
    "mtcnn": mtcnn,
    "haar": haar,
    "yunet": yunet,
    "fer-haar": lambda: fer(mtcnn=False),
    "fer-mtcnn": lambda: fer(mtcnn=True),
    "deepface-opencv": lambda: deepface("opencv"),
    "deepface-mtcnn": lambda: deepface("mtcnn"),
}


def answer(
    prepared: dict[str, Any], prepare: Prepare, detect: Detect, request: dict[str, Any]
) -> dict[str, Any]:
    """Time one call; the image is prepared at its first."""
    path = request["image"]
    if path not in prepared:
        prepared[path] = prepare(np.load(path))
    now = process_time if request["clock"] == "cpu" else perf_counter
    start = now()
    faces = detect(prepared[path], request["min_face_size"])
    return {"ms": (now() - start) * 1000, "faces": faces}


def told(error: Exception) -> str:
    """Whatever a peer fails with, to stand beside its name."""
    return f"it failed: {type(error).__name__}: {error}"


def main() -> None:
    # What a package prints must not get between the answers.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=channel, flush=True)

    try:
        prepare, detect = PEERS[sys.argv[1]]()
    except Exception as error:
        say({"error": told(error)})
        return
    say({"ready": True})
    prepared: dict[str, Any] = {}
    for line in sys.stdin:
        try:
            say(answer(prepared, prepare, detect, json.loads(line)))
        except Exception as error:
            say({"error": told(error)})


if __name__ == "__main__":
    main()
