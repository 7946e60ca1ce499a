"""Timing that a busy machine spoils least: what is compared takes turns, and medians are told."""

import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import TypeVar

import cv2
import numpy as np
import onnxruntime as ort

from service.runtime.cpus import usable_cpus

K = TypeVar("K")
Milliseconds = float


# "cpu" is this process's processor time: what to compare on a machine that others use too.
CLOCKS: dict[str, Callable[[], float]] = {"wall": perf_counter, "cpu": process_time}


def timed(call: Callable[[], object], clock: str = "wall") -> Milliseconds:
    now = CLOCKS[clock]
    start = now()
    call()
    return (now() - start) * 1000


def interleaved(clocks: Mapping[K, Callable[[], Milliseconds]], rounds: int) -> dict[K, Milliseconds]:
    """The median of each clock over rounds in which all take turns; one round before does not count."""
    times: dict[K, list[Milliseconds]] = {key: [] for key in clocks}
    for number in range(rounds + 1):
        for key, clock in clocks.items():
            value = clock()
            if number:
                times[key].append(value)
    return {key: median(values) for key, values in times.items()}


def processor() -> str:
    """The processor's name as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def machine() -> dict[str, str | int | float]:
    """What the figures depend on."""
    return {
        "processor": processor(),
        "cpus": usable_cpus(),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "onnxruntime": ort.__version__,
        "opencv": cv2.__version__,
        "numpy": np.__version__,
    }


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
