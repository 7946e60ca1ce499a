"""A cluster of two nodes on this machine, with one CPU each; nothing here is collected by `make test`."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.ray.cluster import Cluster


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Two nodes; skipped where Ray does not start, or a failure where REQUIRE=1 is set."""
    # Ray's sockets lie in this folder, and the names of sockets are short.
    with TemporaryDirectory(prefix="fer-ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(Path(folder), getattr(request.module, "DASHBOARD", False))
        try:
            cluster.start()
        except (OSError, RuntimeError) as error:
            cluster.kill()
            if os.environ.get("REQUIRE") == "1":
                raise
            pytest.skip(f"Ray does not start here: {error}")
        yield cluster
        cluster.kill()
