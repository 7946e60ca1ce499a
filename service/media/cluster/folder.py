"""The output folder of a bulk run, in any file system, and which run it belongs to.

Names that begin with `_`, which readers of Parquet folders pass over, are the run's own: `_job.json` says
which run it is, `_failures.jsonl` and `_report.json` come when all is done.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pyarrow.fs import FileSelector, FileType

from service.media.cluster.places import Place
from service.media.errors import JournalError

_JOB, _FAILURES, _REPORT = "_job.json", "_failures.jsonl", "_report.json"
_DRAFT = ".part"
# What runs over photos and over films write.
_RESULTS = (".parquet", ".timeline.png", ".summary.json")


class Folder:
    """A folder that the driver and every node can reach."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def begin(self, identity: Mapping[str, Any], restart: bool) -> None:
        """Take the folder for a run, or go on with that run. Raises JournalError where it is not this run's.

        restart: remove everything that an earlier run of this program left in it.
        """
        self.place.filesystem.create_dir(self.place.path, recursive=True)
        known = self._read_job()
        if known is None:
            if self.paths():
                raise JournalError(f"{self.place} has files in it that are of no run: choose another folder")
        elif restart:
            self._clear()
        elif known != json.loads(json.dumps(identity)):
            raise JournalError(
                f"{self.place} is of a run with other options or another model: "
                "repeat those to go on, or begin again with --restart"
            )
        self.write(_JOB, json.dumps(identity, indent=1).encode() + b"\n")

    def finish(self, report: Mapping[str, Any], failures: Iterable[tuple[str, str]]) -> None:
        """Write the list of failures and, last, the report that marks the folder as complete."""
        lines = (json.dumps({"file": file, "error": error}, ensure_ascii=False) for file, error in failures)
        self.write(_FAILURES, "".join(f"{line}\n" for line in lines).encode())
        self.write(_REPORT, json.dumps(report, indent=1).encode() + b"\n")

    def paths(self) -> list[str]:
        """Every file in it, those of folders in it too."""
        selector = FileSelector(self.place.path, recursive=True)
        return [
            one.path for one in self.place.filesystem.get_file_info(selector) if one.type == FileType.File
        ]

    def write(self, name: str, data: bytes) -> None:
        """Put a file in it in one step, so that no reader sees half of it."""
        draft, target = self.place.below(f"{name}{_DRAFT}"), self.place.below(name)
        self.place.filesystem.create_dir(target.rpartition("/")[0], recursive=True)
        with self.place.filesystem.open_output_stream(draft) as stream:
            stream.write(data)
        self.place.filesystem.move(draft, target)

    def _read_job(self) -> Any:
        path = self.place.below(_JOB)
        if self.place.filesystem.get_file_info(path).type != FileType.File:
            return None
        with self.place.filesystem.open_input_stream(path) as stream:
            return json.loads(stream.read())

    def _clear(self) -> None:
        """Remove what runs write, nothing else; the mark that makes the folder this program's goes last."""
        own = {self.place.below(name) for name in (_JOB, _FAILURES, _REPORT)}
        for path in sorted(self.paths(), key=lambda path: path == self.place.below(_JOB)):
            name = path.removesuffix(_DRAFT)
            if name in own or name.endswith(_RESULTS):
                self.place.filesystem.delete_file(path)
