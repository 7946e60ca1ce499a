"""Prometheus, Alertmanager and their tools: from the PATH, else Debian's packages, unpacked in build/."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("prometheus", "promtool", "prometheus-alertmanager", "amtool")
PACKAGES = ("prometheus", "prometheus-alertmanager")
UNPACKED = ROOT / "build" / "observability"


@pytest.fixture(scope="session")
def tools() -> dict[str, str]:
    """The path of each of PROGRAMS. Skips where they cannot be had; fails with REQUIRE=1."""
    found = _found()
    if len(found) < len(PROGRAMS) and shutil.which("apt-get"):
        _unpack()
        found = _found()
    missing = ", ".join(name for name in PROGRAMS if name not in found)
    if missing:
        reason = f"{missing}: not on the PATH, and Debian's packages could not be fetched"
        if os.environ.get("REQUIRE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def _found() -> dict[str, str]:
    # Upstream's Alertmanager has no prefix.
    names = {name: name for name in PROGRAMS} | {"prometheus-alertmanager": "alertmanager"}
    path = f"{UNPACKED / 'usr' / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    found = {name: shutil.which(name, path=path) or shutil.which(names[name], path=path) for name in PROGRAMS}
    return {name: program for name, program in found.items() if program}


def _unpack() -> None:
    """Unpacked and not installed: nothing is started and nothing outside of build/ changes."""
    UNPACKED.mkdir(parents=True, exist_ok=True)
    if _apt("download", *PACKAGES) != 0 and os.geteuid() == 0:
        _apt("update")
        _apt("download", *PACKAGES)
    for package in UNPACKED.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, UNPACKED], check=True)


def _apt(*arguments: str) -> int:
    return subprocess.run(["apt-get", "-q", *arguments], cwd=UNPACKED, check=False).returncode
