import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.runtime.sessions import GraphError, OrtSession, _options


def test_the_runtime_keeps_no_device_id_and_reports_to_nobody(tmp_path: Path) -> None:
    hidden = {"CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-c", "import service.runtime.sessions"]
    subprocess.run(command, env=environment | {"HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.rglob("*")) == []


def test_a_session_keeps_no_memory_between_images_and_no_more_threads_than_it_may() -> None:
    options = _options(threads=2)
    assert not options.enable_cpu_mem_arena
    assert not options.enable_mem_pattern
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)


def field(number: int, value: int | bytes) -> bytes:
    """A short field of a protocol buffer, which is what ONNX files are."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value)]) + value


def test_weights_that_no_checksum_covers_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights.data").write_bytes(bytes(4))
    monkeypatch.chdir(tmp_path)
    place = field(1, b"location") + field(2, b"weights.data")
    weights = field(1, 1) + field(2, 1) + field(8, b"w") + field(13, place) + field(14, 1)
    node = field(1, b"w") + field(2, b"y") + field(4, b"Identity")
    shape = field(2, field(1, field(1, 1)))
    output = field(1, b"y") + field(2, field(1, field(1, 1) + shape))
    graph = field(1, node) + field(2, b"g") + field(5, weights) + field(12, output)
    with pytest.raises(GraphError, match=r"External data .*weights\.data"):
        OrtSession(field(1, 8) + field(7, graph) + field(8, field(2, 17)))
