"""Joining a Ray cluster, and holding an output folder against a second run."""

import hashlib
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.exceptions import RayError

from service.media.errors import ClusterError

# Ray itself goes on trying for minutes.
_KNOCK_S = 10.0


@contextmanager
def joined(address: str) -> Iterator[None]:
    """Be a driver of the cluster at `address` (`auto`, or HOST:PORT). Raises ClusterError."""
    try:
        _knock(address)
        ray.init(address=address, logging_level=logging.WARNING, _node_ip_address=_own_address(address))
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise ClusterError(f"no Ray cluster answers at {address}: {_first_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def alone(out: str) -> Iterator[None]:
    """Be the only run that writes to `out`. Raises ClusterError where another one does.

    The cluster forgets the claim when the driver that made it ends, however it ends.
    """
    name = f"fer-service-{hashlib.sha256(out.encode()).hexdigest()[:16]}"
    try:
        claim = _Claim.options(name=name, namespace="fer-service").remote()  # type: ignore[attr-defined]
    except ValueError as error:
        raise ClusterError(f"another run is writing to {out}") from error
    yield
    ray.kill(claim)


def cpus() -> int:
    """CPUs of the whole cluster."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


@ray.remote(num_cpus=0)
class _Claim:
    """Exists while its driver does."""


def _knock(address: str) -> None:
    """Raise OSError unless something listens at HOST:PORT; `auto` is not asked."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_S).close()


def _own_address(address: str) -> str | None:
    """Nodes that are separate addresses of one machine cannot be told apart by asking the network."""
    host = address.rpartition(":")[0]
    return host if host.startswith("127.") else None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
