"""The command line: what it prints, and how it refuses to start."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *arguments],
        capture_output=True, text=True, timeout=60, check=False, cwd=ROOT, env={**os.environ, **environment},
    )  # fmt: skip


def assert_refuses(process: "subprocess.CompletedProcess[str]", sentence: str) -> None:
    assert process.returncode == 1
    assert process.stderr.count("\n") == 1
    assert process.stderr.startswith("fer-service: ")
    assert sentence in process.stderr


def test_help_names_the_commands() -> None:
    text = run("--help").stdout
    assert all(command in text for command in ("serve", "models", "openapi"))


def test_models_lists_the_store() -> None:
    process = run("models")
    assert process.returncode == 0
    assert "balanced *" in process.stdout


def test_openapi_prints_the_document() -> None:
    process = run("openapi")
    assert json.loads(process.stdout)["info"]["title"] == "fer-service"
    # It is of no deployment.
    assert run("openapi", FER_PORT="many", FER_METRICS="false").stdout == process.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such pipes")
@pytest.mark.parametrize("command", ["models", "openapi", "--version"])
def test_output_that_nobody_reads_ends_a_command_quietly(command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "service.cli", command],
        stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False, cwd=ROOT,
    )  # fmt: skip
    os.close(writer)
    assert (process.returncode, process.stderr) == (141, b"")


@pytest.mark.skipif(sys.platform != "linux", reason="it has no such file")
def test_output_that_cannot_be_written_is_told_in_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        process = subprocess.run(
            [sys.executable, "-m", "service.cli", "models"],
            stdout=full, stderr=subprocess.PIPE, timeout=60, check=False, cwd=ROOT,
        )  # fmt: skip
    assert (process.returncode, process.stderr) == (2, b"fer-service: output: No space left on device\n")


def test_a_bad_setting_stops_the_start() -> None:
    assert_refuses(run("serve", FER_QUEUE_SIZE="many"), "FER_QUEUE_SIZE='many'")


def test_a_missing_store_stops_the_start(tmp_path: Path) -> None:
    process = run("serve", "--port", "0", "--model-store", str(tmp_path))
    assert_refuses(process, "manifest.json cannot be read")


def test_a_taken_port_stops_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_refuses(run("serve", "--port", str(port)), f"cannot listen on 127.0.0.1 port {port}")
