"""What the image leaves out of its packages, whatever Python they are for."""

import subprocess
from pathlib import Path

import pytest

TRIM = Path(__file__).parents[2] / "docker" / "trim.sh"
ALWAYS = (
    "onnxruntime/transformers",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "numpy/f2py",
    "a/tests",
)


@pytest.mark.parametrize("before_3_12", [("numpy/distutils",), ()])
def test_only_what_nobody_loads_is_dropped(tmp_path: Path, before_3_12: tuple[str, ...]) -> None:
    """NumPy has no distutils for Python 3.12 and newer."""
    for folder in (*ALWAYS, *before_3_12, "a"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "module.py").touch()
        (tmp_path / folder / "module.pyi").touch()
    subprocess.run(["sh", TRIM, tmp_path], check=True, capture_output=True)
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*.*")] == [Path("a/module.py")]
