"""How a run ends, and what of that a terminal is told."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from service.media.terminal import told_in_one_line

ROOT = Path(__file__).parents[2]


def test_a_request_to_end_ends_as_ctrl_c_does(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(typer.Exit) as stopped, told_in_one_line("go on so"):
        signal.raise_signal(signal.SIGTERM)
    assert stopped.value.exit_code == 130
    assert capsys.readouterr().err == "fer-service: interrupted; go on so\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signal")
@pytest.mark.usefixtures("capfd")  # the terminal that `pytest -s` writes to is not gone
@pytest.mark.parametrize(("before", "code"), [(signal.SIG_DFL, 130), (signal.SIG_IGN, None)])
def test_a_terminal_that_goes_ends_a_run_unless_nohup_keeps_it(
    before: signal.Handlers, code: int | None
) -> None:
    own, ended = signal.signal(signal.SIGHUP, before), None
    try:
        with told_in_one_line():
            signal.raise_signal(signal.SIGHUP)
    except typer.Exit as end:
        ended = end.exit_code
    assert signal.signal(signal.SIGHUP, own) is before
    assert ended == code


_WAITS = """
import sys
from service.media.terminal import told_in_one_line
from service.media.progress import counting
with told_in_one_line(), counting(2, "photos") as meter:
    try:
        print("begun", flush=True)
        sys.stdin.read()
    except KeyboardInterrupt:
        print("interrupted")
        sys.stderr.write("to nobody")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such terminals")
def test_nothing_is_told_to_a_terminal_that_is_gone() -> None:
    terminal, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _WAITS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=theirs, cwd=ROOT
    )
    os.close(theirs)
    assert process.stdout
    assert process.stdout.readline() == b"begun\n"
    os.close(terminal)
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, b"interrupted\n")
