"""The image and its containers, through docker or podman."""

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
HARDENED = (
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--memory=512m",
    "--cpus=1",
    "--pids-limit=256",
)
START_S = 60
LONGEST_CALL_S = 120


@cache
def engine() -> str:
    """docker or podman, whichever works; without one the test is skipped, or fails where REQUIRE=1 is set."""
    for name in ("docker", "podman"):
        if (
            shutil.which(name)
            and subprocess.run([name, "info"], capture_output=True, check=False).returncode == 0
        ):
            return name
    reason = "neither docker nor podman works on this machine: the image is neither built nor run"
    if os.environ.get("REQUIRE") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def call(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run docker or podman."""
    command = [engine(), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST_CALL_S)
    assert result.returncode == 0 or not check, f"{arguments}: {result.stderr}"
    return result


def inspect(name: str) -> dict[str, Any]:
    """What the engine knows of an image or a container."""
    found: list[dict[str, Any]] = json.loads(call("inspect", name).stdout)
    return found[0]


@dataclass(frozen=True)
class Container:
    """A container of the service and a client of it."""

    name: str
    client: httpx.Client

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it, whatever its exit code."""
        return call("exec", self.name, *command, check=False)

    def logs(self) -> str:
        """Everything it has written."""
        result = call("logs", self.name)
        return result.stdout + result.stderr

    def wait_for(self, path: str) -> None:
        """Return once `path` answers 200. Fails when the container ends before or takes too long."""
        last = time.monotonic() + START_S
        while not self._answers(path):
            assert inspect(self.name)["State"]["Running"], self.logs()
            assert time.monotonic() < last, self.logs()
            time.sleep(0.1)

    def exit_code(self) -> int:
        """Wait for its end."""
        return int(call("wait", self.name).stdout)

    def _answers(self, path: str) -> bool:
        try:
            return self.client.get(path).is_success
        except httpx.TransportError:
            return False


def start(image: str, port: int, *options: str) -> str:
    """Start the service on a loopback port with every restriction; the container's name."""
    # Of the two only podman mounts writable file systems on a read-only root unless told not to.
    extra = ("--read-only-tmpfs=false",) if engine() == "podman" else ()
    publish = ("--env", f"FER_PORT={port}", "--publish", f"127.0.0.1:{port}:{port}")
    return call("run", "--detach", *HARDENED, *extra, *publish, *options, image).stdout.strip()
