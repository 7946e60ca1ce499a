"""FER2013 in the forms it is published in, as arrays in memory.

Every loader returns `Faces`; a bad row stops the load with the file's name and the row's line number.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from service.vision.types import EMOTIONS

SIDE = 48
# FER+ (Barsoum et al., 2016) asked ten people for one of these; the last three have no FER2013 class.
VOTES = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "NF",
)
# For each of EMOTIONS, its column in VOTES.
VOTE_OF_EMOTION = (4, 5, 6, 1, 3, 2, 0)
KAGGLE_FILES, FERPLUS_FILE = ("fer2013.csv", "icml_face_data.csv"), "fer2013new.csv"
# The folder of the image release on Kaggle with both test splits: test/happy/PublicTest_88305.jpg.
BOTH_TESTS = "test"
KAGGLE_USAGE = {"train": "Training", "public_test": "PublicTest", "private_test": "PrivateTest"}


class FerPlusRow(NamedTuple):
    """A row of FER+'s list; usage: empty where the list does not say."""

    line: int
    usage: str
    votes: list[float]


NO_VOTES = FerPlusRow(0, "", [float("nan")] * len(VOTES))


class DataError(ValueError):
    """The data is missing or has a row that cannot be read; the message names it."""


@dataclass(frozen=True)
class Faces:
    """Faces with what people said of them.

    images: (N, 48, 48) uint8 grayscale; labels: (N,) int64 index into EMOTIONS; votes: (N, 10) float32 in
    the order of VOTES, NaN where there are none.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    votes: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: NDArray[Any]) -> "Faces":
        """The faces at these positions."""
        return Faces(self.images[index], self.labels[index], self.votes[index])

    def fingerprint(self) -> str:
        """A sha256 that tells these faces, with what people said of them, from any others."""
        found = sha256()
        for array in (self.images, self.labels, np.nan_to_num(self.votes, nan=-1)):
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def first(self, count: int | None) -> "Faces":
        """The first so many, or all."""
        return self.subset(np.arange(len(self))[:count])


def load(source: Path, split: str, ferplus: Path | None = None) -> Faces:
    """Load a split (train, public_test, private_test) from whichever form `source` is in.

    source: a folder with contact sheets (`labels.csv` and `<split>.png`), a folder of images (see
    `load_folders`), or Kaggle's `fer2013.csv` / `icml_face_data.csv`, or a folder with that.
    ferplus: FER+'s `fer2013new.csv`, whose rows follow those of Kaggle's file; for that form alone. Where
    Kaggle's file is found in a folder, that which lies beside it is taken unless another is named.
    """
    if not source.exists():
        raise DataError(f"no FER2013 data at {source}: pass --data with fer2013.csv or a folder")
    if source.is_file():
        return load_kaggle(source, split, ferplus)
    if (table := _kaggle_file(source)) is not None:
        beside = source / FERPLUS_FILE
        return load_kaggle(table, split, ferplus or (beside if beside.exists() else None))
    if ferplus is not None:
        raise DataError(
            f"{source} is a folder: --ferplus goes with Kaggle's file, and votes come with the sheets"
        )
    if (source / "labels.csv").exists():
        return load_sheets(source, split)
    return load_folders(source, split)


def load_sheets(folder: Path, split: str) -> Faces:
    """Contact sheets: `<split>.png` holds rows of 48x48 tiles, `labels.csv` names them in order."""
    columns = ["votes_" + vote.lower() for vote in VOTES]
    labels, votes = [], []
    met = dict.fromkeys(KAGGLE_USAGE, 0)
    for line, row in _rows(folder / "labels.csv", "split", "emotion", *columns):
        if row["split"] not in met:
            raise DataError(f"labels.csv, line {line}: split {row['split']!r} is none of {', '.join(met)}")
        # A row that is missing, or stands elsewhere, would shift the labels of all tiles after it.
        tile, met[row["split"]] = met[row["split"]], met[row["split"]] + 1
        if row.get("index", str(tile)) != str(tile):
            raise DataError(f"labels.csv, line {line}: index {row['index']!r} where tile {tile} comes next")
        if row["split"] == split:
            labels.append(_emotion_by_name(row["emotion"], folder / "labels.csv", line))
            votes.append(_votes(row, columns, folder / "labels.csv", line))
    sheet = cv2.imread(str(folder / f"{split}.png"), cv2.IMREAD_GRAYSCALE)
    if sheet is None or not labels:
        raise DataError(f"{folder} holds no split {split!r}")
    height, width = sheet.shape
    if height % SIDE or width % SIDE:
        raise DataError(f"{split}.png of {width}x{height} pixels does not divide into tiles of {SIDE}x{SIDE}")
    count = (height // SIDE) * (width // SIDE)
    if count < len(labels):
        raise DataError(f"{split}.png has {count} tiles for {len(labels)} rows of labels.csv")
    grid = sheet.reshape(height // SIDE, SIDE, width // SIDE, SIDE)
    tiles = grid.transpose(0, 2, 1, 3).reshape(-1, SIDE, SIDE)
    spare = tiles[len(labels) :]
    # What fills the last row of a sheet is of one colour; anything else is a face.
    if len(spare) >= width // SIDE or (spare != spare[:, :1, :1]).any():
        raise DataError(f"labels.csv has {len(labels)} rows for more tiles of {split}.png")
    images = np.ascontiguousarray(tiles[: len(labels)], dtype=np.uint8)
    return Faces(images, np.array(labels, np.int64), np.array(votes, np.float32))


def load_kaggle(path: Path, split: str, ferplus: Path | None = None) -> Faces:
    """Kaggle's CSV: emotion 0..6, 2304 pixel values, usage; some releases put spaces before column names."""
    all_votes = None if ferplus is None else _ferplus_votes(ferplus)
    images, labels, votes, count = [], [], [], 0
    for line, row in _rows(path, "emotion", "pixels", "Usage"):
        if row["Usage"] not in KAGGLE_USAGE.values():
            known = ", ".join(KAGGLE_USAGE.values())
            raise DataError(f"{path.name}, line {line}: Usage {row['Usage']!r} is none of {known}")
        if all_votes is not None and count >= len(all_votes):
            raise DataError(f"{path.name}, line {line}: {ferplus and ferplus.name} ends before")
        called = all_votes[count] if all_votes is not None else NO_VOTES
        count += 1
        if called.usage not in ("", row["Usage"]):
            other = f"Usage {called.usage!r} where {path.name}, line {line}, has {row['Usage']!r}"
            raise DataError(f"{ferplus and ferplus.name}, line {called.line}: {other}")
        if row["Usage"] == KAGGLE_USAGE[split]:
            images.append(_pixels(row["pixels"], path, line))
            labels.append(_emotion_by_index(row["emotion"], path, line))
            votes.append(called.votes)
    if all_votes is not None and count < len(all_votes):
        raise DataError(f"{ferplus and ferplus.name}, line {all_votes[count].line}: {path.name} ends before")
    if not images:
        raise DataError(f"{path} holds no row with Usage {KAGGLE_USAGE[split]}")
    return Faces(np.stack(images), np.array(labels, np.int64), np.array(votes, np.float32))


def load_folders(folder: Path, split: str) -> Faces:
    """Image folders: `<split>/<emotion>/*`, or both test splits in `test/<emotion>`, told apart by names.

    The first so many have as large a share of each emotion as all.
    """
    place, names = folder / split, "*"
    if split != "train" and not place.exists() and (folder / BOTH_TESTS).exists():
        place, names = folder / BOTH_TESTS, f"{KAGGLE_USAGE[split]}_*"
    there = {path.name for path in place.glob("*") if path.is_dir()}
    if (known := there & set(EMOTIONS)) and (others := there - known):
        raise DataError(f"{place} has folders that are no emotion: {', '.join(sorted(others))}")
    images, labels = [], []
    for index, emotion in enumerate(EMOTIONS):
        for path in sorted((place / emotion).glob(names)):
            image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            if image is None or image.shape != (SIDE, SIDE):
                raise DataError(f"{path} is no {SIDE}x{SIDE} image")
            images.append(np.asarray(image, dtype=np.uint8))
            labels.append(index)
    if not images:
        within = f" with {names}" if place != folder / split else ""
        raise DataError(f"{place} holds no folder named for an emotion{within} ({', '.join(EMOTIONS)})")
    votes = np.full((len(images), len(VOTES)), np.nan, np.float32)
    found = Faces(np.stack(images), np.array(labels, np.int64), votes)
    return found.subset(_spread(found.labels))


def vote_shares(votes: NDArray[np.float32]) -> NDArray[np.float32]:
    """FER+ votes (N, 10) as shares of the seven emotions (N, 7); all zero where none of them got a vote."""
    seven = np.nan_to_num(votes[:, VOTE_OF_EMOTION])
    shares: NDArray[np.float32] = seven / np.maximum(seven.sum(axis=1, keepdims=True), 1)
    return shares


def ferplus_majority(votes: NDArray[np.float32]) -> NDArray[np.int64]:
    """The emotion (N,) with most of all ten kinds of votes; -1 for a tie or where it is none of the seven."""
    counts = np.nan_to_num(votes)
    winners = counts == counts.max(axis=1, keepdims=True)
    seven = winners[:, VOTE_OF_EMOTION]
    clear = (winners.sum(axis=1) == 1) & seven.any(axis=1)
    return np.where(clear, seven.argmax(axis=1), -1)


def _kaggle_file(folder: Path) -> Path | None:
    """Kaggle's file in a folder that holds neither sheets nor folders of images."""
    if (folder / "labels.csv").exists() or (folder / "train").is_dir():
        return None
    return next((folder / name for name in KAGGLE_FILES if (folder / name).is_file()), None)


def _spread(labels: NDArray[np.int64]) -> NDArray[np.intp]:
    """Positions of sorted labels (N,), each emotion spread evenly over them all.

    One emotion after the other, the first thousand of FER2013 would be angry, and figures of them no sample.
    """
    counts = np.bincount(labels)
    place = np.concatenate([(np.arange(count) + 0.5) / count for count in counts if count])
    return np.argsort(place, kind="stable")


def _rows(path: Path, *columns: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and rows of a CSV file that has these columns."""
    # Some programs begin a file in UTF-8 with a byte order mark.
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        try:
            names = list(reader.fieldnames or ())
            for column in columns:
                if column not in names:
                    raise DataError(f"{path.name}, line 1: no column {column}")
            # The last of them would count.
            if repeated := {name for name in names if name and names.count(name) > 1}:
                raise DataError(f"{path.name}, line 1: more than one column {', '.join(sorted(repeated))}")
            for row in reader:
                if None in row.values():
                    raise DataError(f"{path.name}, line {reader.line_num}: too few columns")
                if None in row:
                    raise DataError(f"{path.name}, line {reader.line_num}: too many columns")
                yield reader.line_num, row
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path.name}, after line {reader.line_num}: no CSV file in UTF-8") from error


def _emotion_by_name(name: str, path: Path, line: int) -> int:
    if name not in EMOTIONS:
        raise DataError(f"{path.name}, line {line}: emotion {name!r} is none of {', '.join(EMOTIONS)}")
    return EMOTIONS.index(name)


def _emotion_by_index(text: str, path: Path, line: int) -> int:
    if text not in ("0", "1", "2", "3", "4", "5", "6"):
        raise DataError(f"{path.name}, line {line}: emotion {text!r} is not 0 to 6")
    return int(text)


def _pixels(text: str, path: Path, line: int) -> NDArray[np.uint8]:
    try:
        return np.array(text.split(), dtype=np.uint8).reshape(SIDE, SIDE)
    except (ValueError, OverflowError) as error:
        raise DataError(
            f"{path.name}, line {line}: pixels are not {SIDE * SIDE} values of 0 to 255"
        ) from error


def _ferplus_votes(path: Path) -> list[FerPlusRow]:
    if not path.is_file():
        raise DataError(f"no FER+ votes at {path}: pass --ferplus with fer2013new.csv")
    return [
        FerPlusRow(line, row.get("Usage", ""), _votes(row, VOTES, path, line))
        for line, row in _rows(path, *VOTES)
    ]


def _votes(row: Mapping[str, str], columns: Sequence[str], path: Path, line: int) -> list[float]:
    """How many voted for each kind; NaN where all ten are empty."""
    texts = [row[column] for column in columns]
    if not any(texts):
        return NO_VOTES.votes
    try:
        votes = [float(text) for text in texts]
    except ValueError:
        votes = [-1.0]
    if not all(vote >= 0 and vote.is_integer() for vote in votes):
        raise DataError(f"{path.name}, line {line}: votes are not {len(VOTES)} numbers, each a whole one")
    return votes
