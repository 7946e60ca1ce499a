"""The detector's graphs, a photo, and what other programs find in it."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from service.runtime.model_store import DETECTOR_GRAPHS
from service.vision.mtcnn import Mtcnn
from service.vision.types import Session, UInt8Array
from tests.conftest import PHOTO, Loaded

GOLDEN = Path(__file__).parent / "golden" / "mtcnn.npz"
Golden = dict[str, NDArray[Any]]


@pytest.fixture(scope="session")
def golden() -> Golden:
    return dict(np.load(GOLDEN))


@pytest.fixture(scope="session")
def sessions(loaded: Loaded) -> dict[str, Session]:
    store = loaded[0]
    return {name: store.session(entry) for name, entry in store.manifest.detector.items()}


@pytest.fixture(scope="session")
def detector(sessions: dict[str, Session]) -> Mtcnn:
    return Mtcnn(*(sessions[name] for name in DETECTOR_GRAPHS))


@pytest.fixture(scope="session")
def astronaut() -> UInt8Array:
    bgr = cv2.imread(str(PHOTO))
    assert bgr is not None
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
