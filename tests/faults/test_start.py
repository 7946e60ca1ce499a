"""A start that cannot succeed: one line on standard error, exit code 1, no traceback."""

import hashlib
import json
import os
import resource
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.server import ListenError, listen
from service.settings import Settings
from tests.faults.conftest import COMMAND

SECRET = "sha256:tooshort"


def refusal(folder: Path, *arguments: str, **settings: str) -> str:
    """What the command says when it does not start. settings: in capitals also variables of others."""
    variables = {name if name.isupper() else f"FER_{name.upper()}": value for name, value in settings.items()}
    process = subprocess.run(
        [*COMMAND, "--port", "0", *arguments], capture_output=True, text=True, timeout=120, check=False,
        cwd=folder, env={"PATH": os.environ["PATH"], **variables},
    )  # fmt: skip
    assert process.returncode == 1
    assert process.stdout == ""
    assert process.stderr.startswith("fer-service: ")
    assert process.stderr.count("\n") == 1
    return process.stderr


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"queue_size": "many"}, "FER_QUEUE_SIZE='many': "),
        ({"max_pixels": "-1", "workers": "x"}, "FER_WORKERS='x': "),
        ({"api_keys": SECRET}, "FER_API_KEYS=...: "),
        ({"allowed_origins": "example.org"}, "FER_ALLOWED_ORIGINS='example.org': "),
        ({"metrics": "perhaps"}, "FER_METRICS='perhaps': "),
        ({"host": ""}, "FER_HOST='': "),
        ({"host": "no such host"}, "cannot listen on no such host port 0: "),
        ({"host": "a" * 64 + ".example"}, "cannot listen on aaaa"),
        ({"default_model": "nobody"}, "no model 'nobody'"),
        ({"model_store": "/nowhere"}, "/nowhere/manifest.json cannot be read: No such file or directory"),
        ({"OTEL_PROPAGATORS": "nowhere"}, "the OTEL_ variables cannot be used: Propagator nowhere not found"),
    ],
)
def test_a_wrong_setting(tmp_path: Path, settings: dict[str, str], told: str) -> None:
    line = refusal(tmp_path, **settings)
    assert told in line
    assert SECRET not in line


def test_a_dotenv_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe")
    assert ".env cannot be read" in refusal(tmp_path)


def test_a_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"127.0.0.1 port {port}: Address already in use" in refusal(tmp_path, "--port", port)


def test_a_socket_that_the_system_refuses() -> None:
    """As one for `::` where it has no IPv6; here for want of a file descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(ListenError, match=r"^cannot listen on :: port 8000: Too many open files$"):
            listen(Settings(_env_file=None, host="::"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new)


def spoil(store: Path, change: Callable[[bytes], bytes], *, told: bool) -> None:
    """Change the emotion graph, with the manifest's knowledge or without."""
    graph, manifest = store / "emotion" / "balanced.onnx", store / "manifest.json"
    data = change(graph.read_bytes())
    graph.write_bytes(data)
    if told:
        entries = json.loads(manifest.read_text())
        entries["emotion"]["balanced"].update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
        manifest.write_text(json.dumps(entries))


@pytest.mark.parametrize(
    ("change", "informed", "told"),
    [
        (lambda data: data[:-1] + b"?", False, "is not the file of the manifest: its sha256 is "),
        (lambda data: data[: len(data) // 2], False, "is not the file of the manifest: its sha256 is "),
        (lambda data: data[: len(data) // 2], True, "cannot load the graph: "),
        # The graph's last field is the version of its operators.
        (lambda data: data[:-1] + b"\x7f", True, "cannot load the graph: "),
    ],
)
def test_a_graph_that_is_not_what_it_should_be(
    tmp_path: Path, store: Path, change: Callable[[bytes], bytes], informed: bool, told: str
) -> None:
    spoil(store, change, told=informed)
    line = refusal(tmp_path, model_store=str(store))
    assert told in line
    assert "balanced.onnx" in line


def test_a_graph_that_loads_and_does_not_run(tmp_path: Path, store: Path) -> None:
    square_of = b"\n\x02\x08%c\n\x02\x08%cb"  # the last two sizes of the input, before the output
    spoil(store, lambda data: replaced(data, square_of % (48, 48), square_of % (24, 24)), told=True)
    line = refusal(tmp_path, model_store=str(store))
    assert f"the graphs of {store} load, but do not run: " in line


def test_a_missing_graph(tmp_path: Path, store: Path) -> None:
    (store / "mtcnn" / "onet.onnx").unlink()
    assert "onet.onnx cannot be read: No such file" in refusal(tmp_path, model_store=str(store))


def test_a_store_that_cannot_be_read(tmp_path: Path, store: Path) -> None:
    graph = store / "mtcnn" / "onet.onnx"
    graph.unlink()
    graph.symlink_to(graph)
    assert "onet.onnx cannot be read: Too many levels" in refusal(tmp_path, model_store=str(store))


def edited(change: Callable[[Any], object]) -> Callable[[bytes], bytes]:
    def edit(data: bytes) -> bytes:
        manifest = json.loads(data)
        change(manifest)
        return json.dumps(manifest).encode()

    return edit


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data[:1000], "is not a manifest: Invalid JSON"),
        (lambda _: b"[" * 500_000, "is not a manifest: Invalid JSON"),
        (lambda _: b" " * 2_000_000, "larger than 1000000 bytes"),
        (edited(lambda m: m["emotion"]["balanced"].update(file="/etc/shadow")), "a path inside the store"),
        (edited(lambda m: m["detector"]["pnet"].update(file="../../etc/shadow")), "a path inside the store"),
        (edited(lambda m: m["emotion"].update({"\x1b[2J\nfer-service: fine": {}})), "is not a manifest: "),
        (
            edited(lambda m: m["detector"]["pnet"].update(file="mtcnn/rnet.onnx")),
            "not the file of the manifest",
        ),
    ],
)
def test_a_truncated_or_hostile_manifest(
    tmp_path: Path, store: Path, change: Callable[[bytes], bytes], told: str
) -> None:
    manifest = store / "manifest.json"
    manifest.write_bytes(change(manifest.read_bytes()))
    line = refusal(tmp_path, model_store=str(store))
    assert told in line
    assert "\x1b" not in line
