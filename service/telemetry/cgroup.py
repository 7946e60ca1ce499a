"""What the container's limits mean for the service: the kernel's counts, read at each scrape."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.telemetry.process import read_text

ROOT = Path("/sys/fs/cgroup")
# cgroup v2, and v1 where its controllers are mounted together or one by one.
_CPU = ("cpu.stat", "cpu,cpuacct/cpu.stat", "cpu/cpu.stat")
# Limit, usage, and among the counts what the kernel would drop first.
_MEMORY = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)
# What v1 calls a limit where there is none is larger; v2 has a word for it.
_NO_LIMIT = 1 << 60


class CpuQuotaCollector(Collector):
    """Gives nothing where the kernel counts no periods: outside of containers, and on other systems."""

    def __init__(self, cgroup: Path = ROOT) -> None:
        self._cgroup = cgroup

    def collect(self) -> Iterable[Metric]:
        """Periods, throttled periods and throttled seconds since the container was made."""
        counts = self._counts()
        if "nr_periods" not in counts:
            return
        yield CounterMetricFamily(
            "fer_cgroup_cpu_periods",
            "Periods of the container's CPU quota in which it wanted to run.",
            value=counts["nr_periods"],
        )
        yield CounterMetricFamily(
            "fer_cgroup_cpu_throttled_periods",
            "Those of them in which the quota was used up and the container had to wait.",
            value=counts["nr_throttled"],
        )
        yield CounterMetricFamily(
            "fer_cgroup_cpu_throttled_seconds",
            "Time that the container's threads had to wait for the next period, summed over CPUs.",
            value=_throttled_seconds(counts),
        )

    def _counts(self) -> dict[str, int]:
        for name in _CPU:
            try:
                return _parsed(read_text(self._cgroup / name))
            except OSError:
                continue
        return {}


class MemoryLimitCollector(Collector):
    """Gives nothing where no memory limit holds. All of the container's processes count, decoders too."""

    def __init__(self, cgroup: Path = ROOT) -> None:
        self._cgroup = cgroup

    def collect(self) -> Iterable[Metric]:
        """What the container has in use, as the kubelet counts it, and its limit."""
        for names in _MEMORY:
            try:
                limit, usage, stat = (read_text(self._cgroup / name) for name in names[:3])
            except OSError:
                continue
            if limit.strip() == "max" or int(limit) >= _NO_LIMIT:
                return
            yield GaugeMetricFamily(
                "fer_cgroup_memory_working_set_bytes",
                "Memory of the container, without file cache that was not used of late.",
                value=max(0, int(usage) - _parsed(stat).get(names[3], 0)),
            )
            yield GaugeMetricFamily(
                "fer_cgroup_memory_limit_bytes",
                "Memory at which the kernel kills a process of the container.",
                value=int(limit),
            )
            return


def _throttled_seconds(counts: Mapping[str, int]) -> float:
    """v2 counts microseconds, v1 nanoseconds."""
    if "throttled_usec" in counts:
        return counts["throttled_usec"] / 1e6
    return counts.get("throttled_time", 0) / 1e9


def _parsed(text: str) -> dict[str, int]:
    return {key: int(value) for key, value in (line.split() for line in text.splitlines())}
