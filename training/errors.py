"""How a program ends where its user can mend what is wrong."""

from collections.abc import Iterator
from contextlib import contextmanager

from training.config import ConfigError
from training.data import DataError
from training.manifest import StoreError


class ExportError(ValueError):
    """A run cannot become the graph that was asked for."""


@contextmanager
def reported(program: str) -> Iterator[None]:
    """Exit code 1 and one sentence for data, settings, stores and files that are not as they should be."""
    try:
        yield
    except (ConfigError, DataError, StoreError, ExportError) as error:
        raise SystemExit(f"{program}: {error}") from error
    except OSError as error:
        raise SystemExit(f"{program}: {error.filename}: {error.strerror}") from error
