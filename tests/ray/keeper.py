"""Stays the parent of all that a command leaves running, so that it can be ended as a whole.

`python keeper.py COMMAND...` prints `kept` when the command has ended well, and then waits for its children;
when the command fails, it ends them.
With `ray start --block` instead, a node ends as soon as one of its helpers was too slow to start.
"""

import ctypes
import os
import subprocess
import sys
from contextlib import suppress

import psutil

_PR_SET_CHILD_SUBREAPER = 36


def main(command: list[str]) -> int:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    done = subprocess.run(command, check=False)
    if done.returncode:
        for child in psutil.Process().children(recursive=True):
            child.kill()
        return done.returncode
    print("kept", flush=True)  # noqa: T201 - read by the other end of the pipe
    with suppress(ChildProcessError):
        while True:
            os.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
