"""The images that are timed: W1 one face, W2 six faces, W3 a phone photo, W4 a crowd."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from service.vision.pipeline import AnalysisOptions
from service.vision.types import UInt8Array

ASTRONAUT = Path(__file__).parents[1] / "tests" / "data" / "astronaut.jpg"
QUALITY = 90


@dataclass(frozen=True, slots=True)
class Workload:
    """name: as in tables; data: the JPEG file; min_face_size: None for the default."""

    name: str
    data: bytes
    min_face_size: int | None = None

    @property
    def options(self) -> AnalysisOptions:
        """As a request would have them."""
        return AnalysisOptions(min_face_size=self.min_face_size)


def _read(path: Path) -> UInt8Array:
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise SystemExit(f"{path} is no image")
    return np.asarray(pixels, np.uint8)


def _resized(path: Path, width: int, height: int) -> bytes:
    """The upper part of the photo in these proportions, at this size."""
    pixels = _read(path)
    rows = min(pixels.shape[0], round(pixels.shape[1] * height / width))
    resized = cv2.resize(pixels[:rows], (width, height), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", resized, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def portrait() -> Workload:
    """W1, the one that needs no data beside the project."""
    return Workload("W1 640x480, one face", _resized(ASTRONAUT, 640, 480))


def photos(folder: Path) -> Iterator[Workload]:
    """W1, and W2 to W4 and W4 at the peers' smallest face, as far as their photos are in the folder."""
    yield portrait()
    others: tuple[tuple[str, str, Callable[[Path], bytes], int | None], ...] = (
        ("W2 1280x672, six faces", "multiface.jpg", lambda path: _resized(path, 1280, 672), None),
        ("W3 12 megapixels", "phone-12mp.jpg", Path.read_bytes, None),
        ("W4 1920x1440, crowd, from 20", "group-1.jpg", Path.read_bytes, 20),
        ("W4 1920x1440, crowd, from 40", "group-1.jpg", Path.read_bytes, 40),
    )
    for name, file, load, min_face_size in others:
        path = folder / file
        if path.exists():
            yield Workload(name, load(path), min_face_size)
        else:
            print(f"{name} is left out: no {path}")
