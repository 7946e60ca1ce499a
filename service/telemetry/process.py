"""Prometheus' metrics of the process, read with few calls to the system.

The client library's collector makes some forty, and one more for each open file. Every one gives the
interpreter lock away, and under load takes its turn among the workers to have it back.
"""

import math
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress

import prometheus_client
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0


class ProcessCollector(Collector):
    """The library's metrics, those that change with new values; none where there is no `/proc`."""

    def __init__(self) -> None:
        self._metrics = list(prometheus_client.ProcessCollector(registry=None).collect())

    def collect(self) -> Iterable[Metric]:
        """Memory, processor time, open files, their limit, and when the process began."""
        values = _values() if self._metrics else {}
        for metric in self._metrics:
            if metric.name in values:
                (sample,) = metric.samples
                metric.samples = [sample._replace(value=values[metric.name])]
            yield metric


def read_text(path: str | os.PathLike[str]) -> str:
    """A small file of the kernel's, in three calls. Raises OSError."""
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, 65_536).decode()
    finally:
        os.close(file)


def _values() -> Mapping[str, float]:
    """What changes, by the name of its metric; no number where no file descriptor is left to read it with."""
    names = ("process_open_fds", "process_virtual_memory_bytes", "process_resident_memory_bytes")
    values = dict.fromkeys(names, math.nan)
    with suppress(OSError):
        # How many there are, since Linux 6.2; 0 before.
        values[names[0]] = os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
        virtual, resident = read_text("/proc/self/statm").split()[:2]
        values[names[1]], values[names[2]] = int(virtual) * _PAGE_BYTES, int(resident) * _PAGE_BYTES
    times = os.times()
    return values | {"process_cpu_seconds": times.user + times.system}
