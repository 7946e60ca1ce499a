"""What `--ray` does with the options of `analyze` and `video`. Ray is loaded only where it is asked for."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from service.media.analyzers import Model
from service.media.errors import SourceError, media_extra
from service.media.run import Report
from service.media.sources import FILM_SUFFIXES, PHOTO_SUFFIXES
from service.runtime.model_store import ModelStore
from service.settings import read_settings
from service.vision.pipeline import AnalysisOptions


@dataclass(frozen=True, slots=True)
class Bulk:
    """A run on a cluster. sources: paths, folders, patterns or URIs; out: a folder or its URI."""

    address: str
    sources: list[str]
    recursive: bool
    out: str | None
    options: AnalysisOptions
    store: Path | None
    restart: bool


def photos_on_ray(bulk: Bulk, actors: int | None) -> Report:
    """Analyze photos into a folder of Parquet files. Raises MediaError.

    actors: at most so many at once, None for one a CPU.
    """
    out = _out(bulk)
    with media_extra("--ray"):
        from service.media.cluster import connection, photos, places  # noqa: PLC0415
    store, options, model = _model(bulk)
    files = places.find(bulk.sources, bulk.recursive, PHOTO_SUFFIXES, "photo")
    limit = read_settings().max_pixels
    job = photos.PhotoJob(files, places.Place.of(out), options, store, actors, bulk.restart, limit)
    with connection.joined(bulk.address):
        return photos.run_photos_on_ray(job, model)


def films_on_ray(bulk: Bulk, every_s: float, window_s: float) -> Report:
    """Analyze films, each on one CPU, into a folder of their outputs. Raises MediaError."""
    out = _out(bulk)
    with media_extra("--ray"):
        from service.media.cluster import connection, films, places  # noqa: PLC0415
    store, options, model = _model(bulk)
    files = places.find(bulk.sources, bulk.recursive, FILM_SUFFIXES, "film")
    place = places.Place.of(out)
    job = films.FilmJob(files, place, options, store, model, every_s, window_s, bulk.restart)
    with connection.joined(bulk.address):
        return films.run_films_on_ray(job)


def refuse(when: Literal["with", "without"], **given: object) -> None:
    """Raise SourceError where something is given that does not go with --ray, or without it."""
    for name, value in given.items():
        if value:
            raise SourceError(f"{name.replace('_', ' ')} does not go {when} --ray")


def _out(bulk: Bulk) -> str:
    if bulk.out is None:
        raise SourceError("--ray needs a folder for its output: say where with --out")
    return bulk.out


def _model(bulk: Bulk) -> tuple[Path | None, AnalysisOptions, Model]:
    """The store as every node is to find it, and the model that is in it here. Raises ModelStoreError."""
    settings = read_settings(model_store=bulk.store)
    store = settings.model_store.absolute() if settings.model_store else None
    manifest = ModelStore.open(store).manifest
    name = bulk.options.model or settings.default_model or manifest.default
    if name not in manifest.emotion:
        raise SourceError(f"no model {name!r}: there are {', '.join(manifest.emotion)}")
    return store, replace(bulk.options, model=name), Model.of(name, manifest.emotion[name])
