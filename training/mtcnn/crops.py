"""What a smaller R-Net learns from: crops of P-Net's candidates, and the published networks' answers."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice, repeat

import numpy as np
from numpy.random import Generator
from tqdm import tqdm

from service.vision.types import UInt8Array
from training.mtcnn.pictures import varied
from training.mtcnn.teacher import Examples, Teacher
from training.mtcnn.tiles import lit, scenes_with_faces

SCENES = 14_000


def crops(teacher: Teacher, originals: Iterable[UInt8Array], faces: UInt8Array, seed: int = 1) -> Examples:
    """The candidates of pictures (H, W, 3), at several sizes, and of made-up scenes with FER2013's faces."""
    random = np.random.default_rng(seed)
    photos = zip(lit_too(varied(originals), random), repeat(None), strict=False)
    shown = tqdm(
        chain(photos, islice(scenes_with_faces(faces, random), SCENES)), desc="crops", unit="picture"
    )
    parts = [teacher.crops(picture, random, [frame] if frame else []) for picture, frame in shown]
    mixed = random.permutation(sum(len(part.pixels) for part in parts))
    return Examples(*(np.concatenate(arrays)[mixed] for arrays in zip(*parts, strict=True)))


def lit_too(pictures: Iterable[UInt8Array], random: Generator) -> Iterator[UInt8Array]:
    """Each picture, and once more in another light."""
    for picture in pictures:
        yield picture
        yield lit(picture, random)
