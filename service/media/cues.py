"""`--segments`: a CSV file that cuts a programme into named stretches."""

import csv
from io import StringIO
from itertools import pairwise
from pathlib import Path

from service.media.audience import Segment
from service.media.durations import parse_timecode
from service.media.errors import SourceError


def read_cues(path: Path) -> list[Segment]:
    """Segments from columns `start`, `label` and, if it is there and filled, `end`.

    Without an end, a segment lasts to the start of the next line, the last one to the end of the programme.
    Raises SourceError that names the line, by the last one where quotes spread it over several.
    """
    try:
        text = path.read_text("utf-8-sig")
        # Spreadsheets write semicolons where a comma is the decimal point.
        delimiter = ";" if ";" in text.partition("\n")[0] else ","
        reader = csv.DictReader(StringIO(text), delimiter=delimiter, skipinitialspace=True)
        rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    if not rows or not {"start", "label"} <= rows[0][1].keys():
        raise SourceError(f"{path} has no lines under a header with the columns start and label")
    segments = [(line, _segment(path, line, row)) for line, row in rows]
    for (line, segment), (_, following) in pairwise(segments):
        if segment.end_s is None:
            segment.end_s = following.start_s
            if segment.end_s <= segment.start_s:
                raise SourceError(f"{path}, line {line}: it has no end, and the next line starts no later")
    return [segment for _, segment in segments]


def _segment(path: Path, line: int, row: dict[str, str | None]) -> Segment:
    try:
        start = parse_timecode(row["start"] or "")
        end = parse_timecode(row.get("end") or "") if row.get("end") else None
    except ValueError as error:
        raise SourceError(f"{path}, line {line}: {error}") from error
    if end is not None and end <= start:
        raise SourceError(f"{path}, line {line}: it ends before it starts")
    return Segment(row["label"] or f"line {line}", start, end)
