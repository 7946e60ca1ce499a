"""Outputs that take one item after another and hold none of them."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO

from service.media.errors import media_extra
from service.media.records import PHOTO_COLUMNS, Columns, Record, Row, on_one_line, photo_rows

PhotoFormat = Literal["table", "json", "jsonl", "csv", "parquet"]
RowFormat = Literal["csv", "jsonl", "parquet"]

_ROW_GROUP = 2_000


class Writer(Protocol):
    """Takes items in the order of the output."""

    def write(self, item: Mapping[str, Any]) -> None:
        """Add one item."""
        ...

    def close(self) -> None:
        """Complete the output; the stream it goes to stays open."""
        ...


class JsonLinesWriter:
    """One JSON object a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, item: Mapping[str, Any]) -> None:
        """See Writer."""
        self._stream.write(json.dumps(item, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """See Writer."""


class JsonWriter:
    """One JSON array, an item a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._before = stream, "[\n"

    def write(self, item: Mapping[str, Any]) -> None:
        """See Writer."""
        self._stream.write(self._before + json.dumps(item, ensure_ascii=False))
        self._before = ",\n"

    def close(self) -> None:
        """See Writer."""
        self._stream.write("[]\n" if self._before == "[\n" else "\n]\n")


class CsvWriter:
    """RFC 4180, with a header line; what an item lacks stays empty."""

    def __init__(self, stream: TextIO, columns: Columns) -> None:
        self._writer = csv.DictWriter(stream, list(columns), restval="")
        self._writer.writeheader()

    def write(self, item: Mapping[str, Any]) -> None:
        """See Writer."""
        self._writer.writerow({name: _plain(value) for name, value in item.items()})

    def close(self) -> None:
        """See Writer."""


class ParquetWriter:
    """Parquet, a few thousand rows to a group; what an item lacks is null. Needs the `[media]` extra."""

    def __init__(self, path: Path, columns: Columns) -> None:
        with media_extra("the parquet format"):
            import pyarrow as pa  # noqa: PLC0415
            import pyarrow.parquet as pq  # noqa: PLC0415
        self._schema = arrow_schema(columns)
        self._table_of = pa.Table.from_pylist
        self._writer = pq.ParquetWriter(path, self._schema)
        self._rows: list[Row] = []

    def write(self, item: Mapping[str, Any]) -> None:
        """See Writer."""
        self._rows.append(dict(item))
        if len(self._rows) >= _ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """See Writer."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_table(self._table_of(self._rows, schema=self._schema))
        self._rows.clear()


class TableWriter:
    """Photos as lines for people: one for each face."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, item: Mapping[str, Any]) -> None:
        """See Writer."""
        self._stream.writelines(f"{line}\n" for line in _table_lines(item))

    def close(self) -> None:
        """See Writer."""


class RowsWriter:
    """Photos, taken apart into the rows of their faces."""

    def __init__(self, rows: Writer) -> None:
        self._rows = rows

    def write(self, item: Mapping[str, Any]) -> None:
        """See Writer."""
        for row in photo_rows(dict(item)):
            self._rows.write(row)

    def close(self) -> None:
        """See Writer."""
        self._rows.close()


def arrow_schema(columns: Columns) -> Any:
    """The pyarrow.Schema of these columns."""
    import pyarrow as pa  # noqa: PLC0415 - only where the extra is installed

    types = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}
    return pa.schema([(name, types[kind]) for name, kind in columns.items()])


def photo_writer(kind: PhotoFormat, stream: TextIO, path: Path | None) -> Writer:
    """A writer of photo records. path: where parquet, which is no text, goes instead of the stream."""
    if kind == "parquet":
        assert path is not None
        return RowsWriter(ParquetWriter(path, PHOTO_COLUMNS))
    if kind == "csv":
        return RowsWriter(CsvWriter(stream, PHOTO_COLUMNS))
    if kind == "table":
        return TableWriter(stream)
    return JsonWriter(stream) if kind == "json" else JsonLinesWriter(stream)


def row_writer(kind: RowFormat, stream: TextIO, path: Path, columns: Columns) -> Writer:
    """A writer of rows that have these columns."""
    if kind == "parquet":
        return ParquetWriter(path, columns)
    return CsvWriter(stream, columns) if kind == "csv" else JsonLinesWriter(stream)


def _plain(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _table_lines(record: Mapping[str, Any]) -> list[str]:
    name = on_one_line(record["file"])
    if record["status"] != "ok":
        return [f"{name}  failed: {on_one_line(record['error'])}"]
    return [f"{name}  {_face_text(face)}" for face in record["faces"]] or [f"{name}  no face"]


def _face_text(face: Record) -> str:
    box, emotion = face["box"], face["dominant_emotion"]
    place = f"{box['width']}x{box['height']}+{box['x']}+{box['y']}"
    mark = "?" if face["uncertain"] else ""
    return f"{place:<20} {emotion + mark:<9} {face['probabilities'][emotion]:4.0%}"
