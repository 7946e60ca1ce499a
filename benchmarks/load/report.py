"""What was measured beside what is promised, on the terminal and between the markers of a page."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.timing import processor

START, END = "<!-- load -->", "<!-- /load -->"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table. bound: None where the figure is only told; kept: whether the bound was."""

    what: str
    measured: str
    bound: str = ""
    kept: bool = True


def at_most(what: str, value: float, bound: float, form: str = "{:.2f}") -> Finding:
    """A finding that must not be larger than the bound."""
    return Finding(what, form.format(value), f"at most {form.format(bound)}", value <= bound)


def at_least(what: str, value: float, bound: float, form: str = "{:.2f}") -> Finding:
    """A finding that must not be smaller than the bound."""
    return Finding(what, form.format(value), f"at least {form.format(bound)}", value >= bound)


def row(finding: Finding) -> str:
    """One line of Markdown."""
    broken = "" if finding.kept else " (broken)"
    return f"| {finding.what} | {finding.measured} | {finding.bound}{broken} |"


def table(findings: Sequence[Finding]) -> str:
    """All findings in Markdown."""
    return "\n".join(["| | measured | bound |", "|---|---|---|", *map(row, findings)])


def machine() -> str:
    """The processor, the cores that this process may use, and the versions that matter."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "uvicorn", "aiohttp"))
    cores = len(os.sched_getaffinity(0))
    return f"{processor()}, {cores} cores, Python {platform.python_version()}, {packages}"


@dataclass(frozen=True, slots=True)
class Cores:
    """What the cores did since the machine's start, and this process with its children; all in seconds."""

    total: float
    busy: float
    own: float

    @classmethod
    def now(cls) -> "Cores":
        """As the system has it at the moment; children count once they have ended."""
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        ticks = os.sysconf("SC_CLK_TCK")
        idle = fields[3] + fields[4]
        times = os.times()
        own = times.user + times.system + times.children_user + times.children_system
        return cls(sum(fields) / ticks, (sum(fields) - idle) / ticks, own)

    def others_since(self, start: "Cores") -> float:
        """The share of the cores' time that other programs had since then."""
        others = (self.busy - start.busy) - (self.own - start.own)
        return max(0, others) / (self.total - start.total)


def write(page: Path, text: str) -> None:
    """Put the text between the page's markers."""
    before, rest = page.read_text().split(START)
    after = rest.split(END)[1]
    page.write_text(f"{before}{START}\n{text}\n{END}{after}")
