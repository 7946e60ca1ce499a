"""What a smaller R-Net learns from: crops of P-Net's candidates, and the published networks' answers."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice

import numpy as np
from numpy.random import Generator
from tqdm import tqdm

from service.vision.types import UInt8Array
from training.mtcnn.pictures import varied
from training.mtcnn.teacher import Examples, Teacher
from training.mtcnn.tiles import lit, scenes_with_faces

SCENES = 9000


def crops(teacher: Teacher, originals: Iterable[UInt8Array], faces: UInt8Array, seed: int = 1) -> Examples:
    """The candidates of pictures (H, W, 3), at several sizes, and of made-up scenes with FER2013's faces."""
    random = np.random.default_rng(seed)
    made_up = (picture for picture, _ in islice(scenes_with_faces(faces, random), SCENES))
    shown = chain(lit_too(varied(originals), random), made_up)
    parts = [teacher.crops(picture, random) for picture in tqdm(shown, desc="crops", unit="picture")]
    mixed = random.permutation(sum(len(part.pixels) for part in parts))
    return Examples(*(np.concatenate(arrays)[mixed] for arrays in zip(*parts, strict=True)))


def lit_too(pictures: Iterable[UInt8Array], random: Generator) -> Iterator[UInt8Array]:
    """Each picture, and once more in another light."""
    for picture in pictures:
        yield picture
        yield lit(picture, random)
