"""Faces as the service sees them: shown in made-up scenes, found by its detector, cropped as it crops.

The detector frames a face a little differently from FER2013, never twice alike, and what lies around a face
is new to networks that learned FER2013's frames alone. They meet it in views (`training.views`).
"""

import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from itertools import repeat
from multiprocessing import get_context

import cv2
import numpy as np
from tqdm import tqdm

from service.runtime.cpus import usable_cpus
from service.vision.crop import crop_face
from service.vision.mtcnn import Mtcnn
from service.vision.types import UInt8Array
from training import manifest
from training.evaluate import STORE
from training.scenes import Condition, find, load_detector, scene

# How faces are shown: pixels of a side (small ones as often as large ones, by their logarithm), degrees
# either way, and the share that is out of focus, by how many pixels of the face's own 48 at most.
SIDES, LEAN, BLURRED, BLUR = (24.0, 128.0), 12.0, 0.25, 1.0
CHUNK = 64


def scene_crops(images: UInt8Array, seed: int) -> UInt8Array:
    """What the service crops of each of (N, 48, 48) images, shown in a scene of its own: (N, 48, 48).

    A face that the detector does not find stays as it is.
    """
    # Spawned, for a fork would inherit what PyTorch's threads hold.
    with ProcessPoolExecutor(usable_cpus(), get_context("spawn")) as pool:
        with ignoring_interruption():
            crops = pool.map(_scene_crop, images, range(len(images)), repeat(seed), chunksize=CHUNK)
        seen = tqdm(crops, total=len(images), desc="in scenes", mininterval=5, leave=False)
        return np.array(list(seen), np.uint8).reshape(images.shape)


@contextmanager
def ignoring_interruption() -> Iterator[None]:
    """Processes that are started here leave a Ctrl-C, which reaches them too, to this one.

    A pool whose processes end by themselves waits for them for ever.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _scene_crop(image: UInt8Array, index: int, seed: int) -> UInt8Array:
    random = np.random.default_rng((seed, index))
    condition = _condition(random)
    picture, square = scene(image, condition, random)
    face = find(_detector(), picture, square, condition.side)
    return image if face is None else crop_face(picture, face)


def _condition(random: np.random.Generator) -> Condition:
    side = round(float(np.exp(random.uniform(*np.log(SIDES)))))
    blur = float(random.uniform(0, BLUR)) if random.uniform() < BLURRED else 0.0
    return Condition(side, blur, float(random.uniform(-LEAN, LEAN)))


def detector_digest() -> str:
    """The sha256 of the detector that crops."""
    found = sha256()
    for name, graph in sorted(manifest.section(STORE, "detector").items()):
        found.update(name.encode() + (STORE / graph["file"]).read_bytes())
    return found.hexdigest()


@cache
def _detector() -> Mtcnn:
    cv2.setNumThreads(1)  # as many processes as cores are at work
    return load_detector(STORE)
