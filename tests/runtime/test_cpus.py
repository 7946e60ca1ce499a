import os
from pathlib import Path

import pytest

from service.runtime.cpus import usable_cpus

ALLOWED = len(os.sched_getaffinity(0))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("quota", "cpus"), [("50000 100000", 1), ("150000 100000", min(2, ALLOWED)), ("max 100000", ALLOWED)]
)
def test_a_version_2_quota_counts(tmp_path: Path, quota: str, cpus: int) -> None:
    write(tmp_path / "cpu.max", quota + "\n")
    assert usable_cpus(tmp_path) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("50000", 1), ("-1", ALLOWED)])
def test_a_version_1_quota_counts(tmp_path: Path, quota: str, cpus: int) -> None:
    write(tmp_path / "cpu" / "cpu.cfs_quota_us", quota)
    write(tmp_path / "cpu" / "cpu.cfs_period_us", "100000")
    assert usable_cpus(tmp_path) == cpus


def test_a_large_quota_gives_no_more_than_the_affinity(tmp_path: Path) -> None:
    write(tmp_path / "cpu.max", "99900000 100000")
    assert usable_cpus(tmp_path) == ALLOWED


def test_no_cgroup_leaves_the_affinity(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path) == ALLOWED
