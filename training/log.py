"""A run's log: a row for each epoch."""

import csv
from collections.abc import Sequence
from pathlib import Path

from training.files import aside

LOG = "log.csv"
COLUMNS = ("epoch", "loss", "held_out_accuracy", "training_accuracy", "seconds")


def write_log(folder: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write the log of a run anew."""
    with aside(folder / LOG) as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def read_log(folder: Path) -> list[dict[str, str]]:
    """The rows of a run's log, one for each epoch; older logs have fewer columns.

    A row that is cut off, as a writer that was killed could leave one, is left out.
    """
    path = folder / LOG
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if None not in row.values()]
    return [{column: row.get(column, "") for column in COLUMNS} for row in rows]
