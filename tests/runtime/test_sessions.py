import os
import subprocess
import sys
from pathlib import Path


def test_the_runtime_keeps_no_device_id_and_reports_to_nobody(tmp_path: Path) -> None:
    hidden = {"CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-c", "import service.runtime.sessions"]
    subprocess.run(command, env=environment | {"HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.rglob("*")) == []
