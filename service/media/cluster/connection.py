"""Joining a Ray cluster, and holding an output folder against a second run."""

import hashlib
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.exceptions import RayError

from service.media.cluster.places import Place
from service.media.errors import ClusterError

# Ray itself goes on trying for minutes.
_KNOCK_S = 10.0


@contextmanager
def joined(address: str) -> Iterator[None]:
    """Be a driver of the cluster at `address` (`auto`, or HOST:PORT). Raises ClusterError."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        _knock(address)
        ray.init(address=address, logging_level=logging.WARNING, _node_ip_address=_own_address(address))
        # Ray takes it for itself, and ends the program with a trace.
        signal.signal(signal.SIGTERM, before)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise ClusterError(f"no Ray cluster answers at {address}: {_first_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def alone(out: Place) -> Iterator[None]:
    """Be the only run that writes to `out`. Raises ClusterError where another one does.

    The cluster forgets the claim when the driver that made it ends, however it ends.
    """
    # Not as it was written: a path and its URI are one folder.
    folder = f"{out.filesystem.type_name}:{out.path}"
    name = f"fer-service-{hashlib.sha256(folder.encode()).hexdigest()[:16]}"
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
    """Raise OSError unless something listens at HOST:PORT, ValueError for another address but `auto`."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    # `ray://` is of Ray Client, which Ray Data does not work with.
    if not host or "/" in host or not port.isdecimal():
        raise ValueError("an address is auto, or HOST:PORT")
    socket.create_connection((host.strip("[]"), int(port)), _KNOCK_S).close()


def _own_address(address: str) -> str | None:
    """Nodes that are separate addresses of one machine cannot be told apart by asking the network."""
    host = address.rpartition(":")[0]
    return host if host.startswith("127.") else None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
