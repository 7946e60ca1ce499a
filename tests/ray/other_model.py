"""Films for nodes that have another model: `python -m tests.ray.other_model ADDRESS FILMS OUT`."""

import sys
from dataclasses import replace

from service.media.analyzers import Model
from service.media.cluster.connection import joined
from service.media.cluster.films import FilmJob, run_films_on_ray
from service.media.cluster.places import Place, find
from service.media.sources import FILM_SUFFIXES
from service.runtime.model_store import ModelStore
from service.vision.pipeline import AnalysisOptions


def main(address: str, films: str, out: str) -> None:
    manifest = ModelStore.open().manifest
    model = replace(Model.of(manifest.default, manifest.emotion[manifest.default]), version="another")
    files = find([films], True, FILM_SUFFIXES, "film")
    job = FilmJob(files, Place.of(out), AnalysisOptions(), None, model, 0.5, 1.0, restart=False)
    with joined(address):
        run_films_on_ray(job)


if __name__ == "__main__":
    main(*sys.argv[1:])
