"""A bulk job with photos that kill their worker, and some that are gone when it begins.

`python -m tests.ray.poison ADDRESS PHOTOS OUT`
"""

import os
import sys
from pathlib import Path

import pyarrow as pa

from service.media.analyzers import Model
from service.media.cluster.connection import joined
from service.media.cluster.photos import PhotoActor, PhotoJob, run_photos_on_ray
from service.media.cluster.places import Place, find
from service.media.records import Record
from service.media.sources import PHOTO_SUFFIXES
from service.runtime.model_store import ModelStore
from service.vision.pipeline import AnalysisOptions


class Mortal(PhotoActor):
    """Dies of photos that are named `poison`, as of a fault in a decoder."""

    def record(self, file: str, data: pa.Buffer) -> Record:
        if Path(file).stem == "poison":
            os._exit(1)
        return super().record(file, data)


def main(address: str, photos: str, out: str) -> None:
    manifest = ModelStore.open().manifest
    model = Model.of(manifest.default, manifest.emotion[manifest.default])
    files = find([photos], True, PHOTO_SUFFIXES, "photo")
    for gone in Path(photos).glob("gone*"):
        gone.unlink()
    job = PhotoJob(files, Place.of(out), AnalysisOptions(), None, None, restart=False)
    with joined(address):
        run_photos_on_ray(job, model, Mortal)


if __name__ == "__main__":
    main(*sys.argv[1:])
