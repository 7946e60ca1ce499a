"""How much each package takes of an image, with its bytecode. It runs in the image.

podman run --rm -i --entrypoint python3 localhost/fer-service:dev - < docker/sizes.py
"""

import sys
from importlib.metadata import Distribution, distributions
from importlib.util import cache_from_source
from pathlib import Path


def files(package: Distribution) -> set[Path]:
    """What the package has installed and what was compiled from it, as far as it is still there."""
    installed = {Path(str(package.locate_file(file))).resolve() for file in package.files or ()}
    compiled = {Path(cache_from_source(str(path))) for path in installed if path.suffix == ".py"}
    return {path for path in installed | compiled if path.is_file()}


def megabytes(paths: set[Path]) -> float:
    """Their sizes, added up."""
    return sum(path.stat().st_size for path in paths) / 1e6


if __name__ == "__main__":
    found = {package.metadata["Name"]: files(package) for package in distributions()}
    rows = [(name, megabytes(paths)) for name, paths in found.items()]
    rows.append(("all", megabytes(set().union(*found.values()))))
    for name, size in sorted(rows, key=lambda row: -row[1]):
        sys.stdout.write(f"{size:6.1f} MB  {name}\n")
