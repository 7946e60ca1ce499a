"""The rows of a bulk run over photos: Parquet files that are at once the result and the checkpoint.

Ray writes each block of photos as one file, whose footer comes last: a file that can be read is whole, so
what is done is what the files hold.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from service.media.cluster.folder import Folder
from service.media.errors import JournalError
from service.media.records import PHOTO_COLUMNS, Record, photo_rows
from service.media.writers import arrow_schema

SCHEMA = arrow_schema(PHOTO_COLUMNS)
_SUFFIX = ".parquet"
_TALLIED = ["file", "status", "error", "faces", "face"]


@dataclass(slots=True)
class Tally:
    """What the files hold. photos: how often each is there; failures: (file, reason)."""

    photos: Counter[str] = field(default_factory=Counter)
    faces: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)

    def add(self, table: pa.Table) -> None:
        """Count in one file. A photo is counted by the row of its first face, or its only row."""
        first = table.filter(pc.fill_null(pc.equal(table["face"], 0), True))
        self.photos.update(first["file"].to_pylist())
        self.faces += pc.sum(first["faces"]).as_py() or 0
        failed = first.filter(pc.equal(first["status"], "error"))
        self.failures.extend(zip(failed["file"].to_pylist(), failed["error"].to_pylist(), strict=True))


class Output(Folder):
    """A folder of Parquet files with the columns of SCHEMA."""

    def tally(self) -> Tally:
        """Read what is done. Files that were cut off, as a killed writer leaves them, are removed.

        Raises JournalError for a file with other columns: somebody's own, of which nothing is known here.
        """
        tally = Tally()
        for table in self._tables():
            tally.add(table)
        return tally

    def add(self, records: Iterable[Record]) -> None:
        """Write records as one more file."""
        rows = [row for record in records for row in photo_rows(record)]
        data = BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), data)
        self.write(f"{uuid4().hex}{_SUFFIX}", data.getvalue())

    def _tables(self) -> Iterator[pa.Table]:
        for path in self.paths():
            if path.endswith(_SUFFIX):
                table = self._read(path)
                if table is None:
                    self.place.filesystem.delete_file(path)
                else:
                    yield table

    def _read(self, path: str) -> pa.Table | None:
        with self.place.filesystem.open_input_file(path) as file:
            try:
                whole = pq.ParquetFile(file)
            except pa.ArrowInvalid:
                return None
            if not set(_TALLIED) <= set(whole.schema_arrow.names):
                raise JournalError(f"{self.place.prefix}{path} is of no run: keep it in another folder")
            return whole.read(columns=_TALLIED)
