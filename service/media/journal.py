"""The append-only file beside the output, from which an interrupted run goes on."""

import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from service.media.errors import JournalError
from service.media.holding import HOLDS, HeldError, open_held
from service.media.records import Record

Stamp = tuple[
    int, int
]  # size in bytes and time of change in nanoseconds: another file of that name has others


class Journal:
    """One line of JSON for each photo that is done, after a first line that says what run this is.

    Each process that works on the run adds a line that says who it is, and holds the file as long. A line is
    written when a photo is finished, so that whatever stops the process costs at most the photos that were
    being worked on. A photo that failed is tried again when the run goes on.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], restart: bool = False) -> None:
        """Open or make the journal. restart: forget what is in it.

        Raises JournalError when it belongs to a run of another identity, or another process is writing to it.
        """
        self.path = path
        self._places: dict[str, int] = {}
        self._stamps: dict[str, Stamp] = {}
        try:
            self._file = open_held(path)
        except HeldError as error:
            raise JournalError(f"{path} is being written to by {_holder(path)}") from error
        if restart:
            self._file.truncate(0)
        self._read(dict(identity))
        self._write({"run": {"process": os.getpid(), "host": socket.gethostname()}})

    def done(self, file: str, stamp: Stamp | None) -> bool:
        """Whether this very file was analyzed already."""
        return stamp is not None and self._stamps.get(file) == stamp

    def append(self, record: Record, stamp: Stamp | None) -> None:
        """Write down a photo that is finished."""
        self._places[record["file"]] = self._file.seek(0, os.SEEK_END)
        self._write({"record": record, "stamp": stamp})

    def records(self, files: Sequence[str]) -> Iterator[Record]:
        """What is written down of these photos, all of which are, in their order, read one at a time."""
        for file in files:
            self._file.seek(self._places[file])
            yield json.loads(self._file.readline())["record"]

    def close(self) -> None:
        """Keep the journal for later."""
        self._file.close()

    def remove(self) -> None:
        """The run is complete: nothing is left to go on from."""
        if not HOLDS:
            self._file.close()
        # Held until it is gone: another run that had begun in it would lose its photos.
        self.path.unlink()
        self._file.close()

    def _read(self, identity: dict[str, Any]) -> None:
        self._file.seek(0)
        first = self._file.readline()
        if not first.endswith(b"\n") and _line(identity).startswith(first):  # none, or cut short by a kill
            self._file.truncate(0)
            self._write(identity)
        elif _parsed(first) != identity:
            self._file.close()
            raise JournalError(
                f"{self.path} is of a run with other options or another model: "
                "repeat those to go on, or begin again with --restart"
            )
        else:
            self._read_lines()

    def _read_lines(self) -> None:
        place = self._file.tell()
        while (entry := _parsed(self._file.readline())) is not None:
            self._remember(place, entry)
            place = self._file.tell()
        # A process that is killed can leave half a line.
        self._file.truncate(place)

    def _remember(self, place: int, entry: dict[str, Any]) -> None:
        if "run" in entry:
            return
        record, stamp = entry["record"], entry["stamp"]
        self._places[record["file"]] = place
        if record["status"] == "ok" and stamp:
            self._stamps[record["file"]] = (stamp[0], stamp[1])

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(_line(entry))
        self._file.flush()


def stamp_of(path: Path) -> Stamp | None:
    """Tells one version of a file from another; None where there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _holder(path: Path) -> str:
    """Who wrote last that it works on this run."""
    told = "another run"
    with suppress(OSError), path.open("rb") as file:
        for line in file:
            run = (_parsed(line) or {}).get("run")
            if run:
                told = f"another run, process {run['process']} on {run['host']}"
    return told


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _parsed(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
