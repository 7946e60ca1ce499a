"""Files that stand there whole, or as they were before: written aside, and then renamed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Where to write what shall stand at `path`. A writer that fails or is killed leaves what was there."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        # Half of a file must not fill a disk that had no room for all of it.
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole file."""
    with aside(path) as temporary:
        temporary.write_text(text)
