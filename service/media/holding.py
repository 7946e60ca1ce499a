"""One run at a time in a file: a lock that ends with the process that holds it, however that ends."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

if sys.platform != "win32":
    import fcntl

HOLDS = sys.platform != "win32"


class HeldError(Exception):
    """Another run has the file."""


def open_held(path: Path) -> IO[bytes]:
    """The file, made where there is none, to read and to append to, until it is closed by this run alone.

    Raises HeldError. A file system without locks, such as some of the network's, keeps nobody out.
    """
    while True:
        file = path.open("a+b")
        try:
            hold(file)
        except HeldError:
            file.close()
            raise
        # A run that ended between the two steps has taken its file away, and this lock with it.
        if _is_at(path, file):
            return file
        file.close()


def hold(file: IO[Any]) -> None:
    """Have an open file until it is closed, by this run alone. Raises HeldError."""
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:  # the second from other machines, over SMB
        raise HeldError from error
    except OSError:
        return


def _is_at(path: Path, file: IO[bytes]) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    return False
