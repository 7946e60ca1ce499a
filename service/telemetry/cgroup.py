"""How often the container's CPU quota made the process wait: the kernel's counts, read at each scrape."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from service.telemetry.process import read_text

# cgroup v2, and v1 where its controllers are mounted together or one by one.
_FILES = ("cpu.stat", "cpu,cpuacct/cpu.stat", "cpu/cpu.stat")


class CpuQuotaCollector(Collector):
    """Gives nothing where the kernel counts no periods: outside of containers, and on other systems."""

    def __init__(self, cgroup: Path = Path("/sys/fs/cgroup")) -> None:
        self._cgroup = cgroup

    def collect(self) -> Iterable[Metric]:
        """Periods, throttled periods and throttled seconds since the container was made."""
        counts = _counts(self._cgroup)
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


def _throttled_seconds(counts: Mapping[str, int]) -> float:
    """v2 counts microseconds, v1 nanoseconds."""
    if "throttled_usec" in counts:
        return counts["throttled_usec"] / 1e6
    return counts.get("throttled_time", 0) / 1e9


def _counts(cgroup: Path) -> dict[str, int]:
    for name in _FILES:
        try:
            text = read_text(cgroup / name)
        except OSError:
            continue
        return {key: int(value) for key, value in (line.split() for line in text.splitlines())}
    return {}
