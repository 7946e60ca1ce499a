from pathlib import Path

import cv2
import numpy as np
import pytest

from service.vision.types import EMOTIONS
from training.data import VOTE_OF_EMOTION, VOTES, DataError, Faces, ferplus_majority, load, vote_shares

PIXELS = " ".join(str(value % 256) for value in range(48 * 48))
KAGGLE = "emotion,pixels,Usage"
ICML = "emotion, Usage, pixels"
FERPLUS = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
SHEET = (
    "split,index,emotion,fer2013_row,votes_neutral,votes_happiness,votes_surprise,votes_sadness,"
    "votes_anger,votes_disgust,votes_fear,votes_contempt,votes_unknown,votes_nf"
)


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def sheets(folder: Path, *rows: str) -> Path:
    write(folder / "labels.csv", SHEET, *rows)
    sheet = np.arange(48 * 96, dtype=np.uint32).reshape(48, 96) % 251
    cv2.imwrite(str(folder / "train.png"), sheet.astype(np.uint8))
    return folder


def test_kaggle_csv(tmp_path: Path) -> None:
    path = write(
        tmp_path / "fer2013.csv",
        KAGGLE,
        f"3,{PIXELS},Training",
        f"6,{PIXELS},PublicTest",
        f"0,{PIXELS},Training",
    )
    faces = load(path, "train")
    assert faces.labels.tolist() == [3, 0]
    assert faces.images[0].ravel()[:300].tolist() == [value % 256 for value in range(300)]
    assert np.isnan(faces.votes).all()
    assert load(path, "public_test").labels.tolist() == [6]


def test_icml_csv_has_spaces_in_its_header(tmp_path: Path) -> None:
    path = write(tmp_path / "icml_face_data.csv", ICML, f"2,Training,{PIXELS}")
    assert load(path, "train").labels.tolist() == [2]


def test_ferplus_rows_follow_kaggle_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "fer2013.csv", KAGGLE, f"3,{PIXELS},PublicTest", f"4,{PIXELS},Training")
    votes = write(
        tmp_path / "fer2013new.csv",
        FERPLUS,
        "PublicTest,a.png,1,9,0,0,0,0,0,0,0,0",
        "Training,b.png,2,0,0,8,0,0,0,0,0,0",
    )
    assert load(path, "train", votes).votes.tolist() == [[2, 0, 0, 8, 0, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize("name", ["fer2013.csv", "icml_face_data.csv"])
def test_kaggles_file_is_found_in_a_folder_with_the_votes_beside_it(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, KAGGLE, f"3,{PIXELS},Training")
    assert np.isnan(load(tmp_path, "train").votes).all()
    votes = [
        write(tmp_path / file, FERPLUS, f"Training,a.png,{count},0,0,0,0,0,0,0,0,0")
        for count, file in ((9, "fer2013new.csv"), (8, "other.csv"))
    ]
    assert load(tmp_path, "train").votes[0, 0] == 9
    assert load(tmp_path, "train", votes[1]).votes[0, 0] == 8


def test_images_in_a_folder_come_before_kaggles_file(tmp_path: Path) -> None:
    (tmp_path / "train" / "sad").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "train" / "sad" / "1.png"), np.zeros((48, 48), np.uint8))
    write(tmp_path / "fer2013.csv", KAGGLE, f"3,{PIXELS},Training")
    assert load(tmp_path, "train").labels.tolist() == [4]


def test_image_folders(tmp_path: Path) -> None:
    for emotion, value in (("happy", 10), ("angry", 20)):
        folder = tmp_path / "train" / emotion
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "1.png"), np.full((48, 48), value, np.uint8))
    faces = load(tmp_path, "train")
    assert faces.labels.tolist() == [0, 3]
    assert faces.images[:, 0, 0].tolist() == [20, 10]


def test_one_folder_of_both_test_splits_is_told_apart_by_names(tmp_path: Path) -> None:
    for index, name in enumerate(("train/sad/a", "test/sad/PublicTest_2", "test/happy/PrivateTest_3")):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((48, 48), index, np.uint8))
    found = {split: load(tmp_path, split) for split in ("train", "public_test", "private_test")}
    assert [int(faces.images.max()) for faces in found.values()] == [0, 1, 2]
    assert [faces.labels.tolist() for faces in found.values()] == [[4], [4], [3]]
    (tmp_path / "test" / "sad" / "PublicTest_2.png").unlink()
    with pytest.raises(DataError, match=r"test holds no .* emotion with PublicTest_\*"):
        load(tmp_path, "public_test")
    (tmp_path / "train").rename(tmp_path / "training")
    with pytest.raises(DataError, match=r"train holds no folder named for an emotion \("):
        load(tmp_path, "train")


def test_the_first_images_of_folders_are_a_sample_of_all(tmp_path: Path) -> None:
    for emotion, count in (("angry", 2), ("fear", 8), ("happy", 6)):
        folder = tmp_path / "train" / emotion
        folder.mkdir(parents=True)
        for index in range(count):
            cv2.imwrite(str(folder / f"{index}.png"), np.full((48, 48), index, np.uint8))
    faces = load(tmp_path, "train")
    for part in (faces.first(8).labels, faces.labels[8:]):
        assert np.bincount(part).tolist() == [1, 0, 4, 3]
    assert faces.images[faces.labels == 3, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_folder_that_is_no_emotion_is_named(tmp_path: Path) -> None:
    for name in ("happy", "suprise"):
        (tmp_path / "train" / name).mkdir(parents=True)
    with pytest.raises(DataError, match="train has folders that are no emotion: suprise"):
        load(tmp_path, "train")


def test_contact_sheets(tmp_path: Path) -> None:
    folder = sheets(tmp_path, "train,0,sad,0,1,0,0,9,0,0,0,0,0,0", "train,1,happy,1,,,,,,,,,,")
    faces = load(folder, "train")
    assert faces.labels.tolist() == [4, 3]
    sheet = cv2.imread(str(folder / "train.png"), cv2.IMREAD_GRAYSCALE)
    assert sheet is not None
    assert np.array_equal(faces.images[1], sheet[:, 48:])
    assert faces.votes[0, 3] == 9
    assert np.isnan(faces.votes[1]).all()


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (f"7,{PIXELS},Training", "emotion '7' is not 0 to 6"),
        ("3,1 2 3,Training", "pixels are not 2304 values of 0 to 255"),
        (f"3,{PIXELS.replace('255', '256')},Training", "pixels are not 2304 values of 0 to 255"),
        (f"3,{PIXELS.replace('17', 'x', 1)},Training", "pixels are not 2304 values of 0 to 255"),
        (f"3,{PIXELS}", "too few columns"),
        (f"3,{PIXELS},Training,", "too many columns"),
        (f"3,{PIXELS},training", "Usage 'training' is none of Training, PublicTest, PrivateTest"),
    ],
)
def test_a_bad_kaggle_row_is_named(tmp_path: Path, row: str, problem: str) -> None:
    path = write(tmp_path / "fer2013.csv", KAGGLE, f"0,{PIXELS},Training", row)
    with pytest.raises(DataError, match=f"fer2013.csv, line 3: {problem}"):
        load(path, "train")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("Training,b.png,2,0,0,many,0,0,0,0,0,0", "votes are not 10 numbers"),
        *(
            (f"Training,b.png,2,0,{votes},0,0,0,0,0,0,0", "votes are not 10 numbers")
            for votes in ("-1", "inf", "nan", "0.5", "")
        ),
        ("Training,b.png,2,0", "too few columns"),
    ],
)
def test_a_bad_ferplus_row_is_named(tmp_path: Path, row: str, problem: str) -> None:
    path = write(tmp_path / "fer2013.csv", KAGGLE, f"3,{PIXELS},Training")
    with pytest.raises(DataError, match=f"fer2013new.csv, line 2: {problem}"):
        load(path, "train", write(tmp_path / "fer2013new.csv", FERPLUS, row))


def test_ferplus_with_fewer_rows_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "fer2013.csv", KAGGLE, f"3,{PIXELS},Training")
    with pytest.raises(DataError, match=r"fer2013.csv, line 2: fer2013new.csv ends before"):
        load(path, "train", write(tmp_path / "fer2013new.csv", FERPLUS))


def test_ferplus_with_more_rows_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "fer2013.csv", KAGGLE, f"3,{PIXELS},Training")
    rows = ["Training,a.png,1,9,0,0,0,0,0,0,0,0"] * 2
    with pytest.raises(DataError, match=r"fer2013new.csv, line 3: fer2013.csv ends before"):
        load(path, "train", write(tmp_path / "fer2013new.csv", FERPLUS, *rows))


def test_ferplus_of_other_rows_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "fer2013.csv", KAGGLE, f"3,{PIXELS},Training", f"4,{PIXELS},PublicTest")
    rows = (f"{usage},a.png,1,9,0,0,0,0,0,0,0,0" for usage in ("Training", "Training"))
    with pytest.raises(
        DataError, match=r"fer2013new.csv, line 3: Usage 'Training' where fer2013.csv, line 3,"
    ):
        load(path, "train", write(tmp_path / "fer2013new.csv", FERPLUS, *rows))


def test_ferplus_need_not_tell_the_usage(tmp_path: Path) -> None:
    path = write(tmp_path / "fer2013.csv", KAGGLE, f"3,{PIXELS},Training")
    header, row = FERPLUS.removeprefix("Usage,"), "a.png,1,9,0,0,0,0,0,0,0,0"
    assert load(path, "train", write(tmp_path / "votes.csv", header, row)).votes[0, 1] == 9


def test_ferplus_is_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "fer2013.csv", KAGGLE, f"3,{PIXELS},Training")
    for ferplus in (tmp_path, tmp_path / "nothing.csv"):
        with pytest.raises(DataError, match="no FER\\+ votes at"):
            load(path, "train", ferplus)


def test_ferplus_goes_with_kaggles_file_alone(tmp_path: Path) -> None:
    votes = write(tmp_path / "fer2013new.csv", FERPLUS)
    with pytest.raises(DataError, match="--ferplus goes with Kaggle's file"):
        load(sheets(tmp_path, "train,0,sad,0,1,0,0,9,0,0,0,0,0,0"), "train", votes)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\xff", "after line 0: no CSV file in UTF-8"),
        (f"{KAGGLE}\n".encode() + b"3,\xff,Training\n", "no CSV file in UTF-8"),
        (f"{KAGGLE}\n3,".encode() + b"1" * 200_000, "after line 1: no CSV file in UTF-8"),
    ],
    ids=["binary", "latin", "endless"],
)
def test_what_is_no_csv_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "fer2013.csv").write_bytes(content)
    with pytest.raises(DataError, match=f"fer2013.csv, .*{problem}"):
        load(tmp_path / "fer2013.csv", "train")


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = write(tmp_path / "fer2013.csv", "\ufeff" + KAGGLE, f"3,{PIXELS},Training")
    assert load(path, "train").labels.tolist() == [3]


def test_a_sheet_has_a_tile_for_each_row(tmp_path: Path) -> None:
    folder = sheets(tmp_path, *(f"train,{index},sad,0,1,0,0,9,0,0,0,0,0,0" for index in range(3)))
    with pytest.raises(DataError, match=r"train.png has 2 tiles for 3 rows of labels.csv"):
        load(folder, "train")


def test_a_sheet_is_made_of_whole_tiles(tmp_path: Path) -> None:
    folder = sheets(tmp_path, "train,0,sad,0,1,0,0,9,0,0,0,0,0,0")
    cv2.imwrite(str(folder / "train.png"), np.zeros((48, 100), np.uint8))
    with pytest.raises(DataError, match=r"train.png of 100x48 pixels does not divide into tiles"):
        load(folder, "train")


def test_a_bad_sheet_row_is_named(tmp_path: Path) -> None:
    folder = sheets(tmp_path, "train,0,joyful,0,1,0,0,9,0,0,0,0,0,0")
    with pytest.raises(DataError, match=r"labels.csv, line 2: emotion 'joyful' is none of angry"):
        load(folder, "train")


@pytest.mark.parametrize(
    ("splits", "problem"),
    [
        (("train,0", "train,2"), "line 3: index '2' where tile 1 comes next"),
        (("train,1", "train,0"), "line 2: index '1' where tile 0 comes next"),
        (("train,0", "public_test,1", "train,1"), "line 3: index '1' where tile 0 comes next"),
        (("train,0", "trian,1"), "line 3: split 'trian' is none of train, public_test, private_test"),
        (("train,0",), "has 1 rows for more tiles of train.png"),
    ],
    ids=["missing", "reordered", "other split", "misspelt", "too few"],
)
def test_no_label_goes_to_another_tile(tmp_path: Path, splits: tuple[str, ...], problem: str) -> None:
    folder = sheets(tmp_path, *(f"{split},sad,0,1,0,0,9,0,0,0,0,0,0" for split in splits))
    with pytest.raises(DataError, match=rf"labels.csv.* {problem}"):
        load(folder, "train")


def test_the_last_row_of_a_sheet_may_be_filled_up(tmp_path: Path) -> None:
    folder = sheets(tmp_path, "train,0,sad,0,1,0,0,9,0,0,0,0,0,0")
    sheet = np.arange(48 * 96, dtype=np.uint32).reshape(48, 96) % 251
    sheet[:, 48:] = 7
    cv2.imwrite(str(folder / "train.png"), sheet.astype(np.uint8))
    assert len(load(folder, "train")) == 1
    cv2.imwrite(str(folder / "train.png"), np.vstack((sheet, np.full_like(sheet, 7))).astype(np.uint8))
    with pytest.raises(DataError, match="has 1 rows for more tiles"):
        load(folder, "train")


def test_tiles_are_counted_row_by_row_and_each_split_apart(tmp_path: Path) -> None:
    rows = [f"train,{tile},{EMOTIONS[tile]},0,1,0,0,9,0,0,0,0,0,0" for tile in range(4)]
    write(tmp_path / "labels.csv", SHEET, rows[0], "public_test,0,sad,0,1,0,0,9,0,0,0,0,0,0", *rows[1:])
    cv2.imwrite(str(tmp_path / "train.png"), np.kron([[1, 2], [3, 4]], np.ones((48, 48))).astype(np.uint8))
    found = load(tmp_path, "train")
    assert found.images.mean(axis=(1, 2)).tolist() == [1, 2, 3, 4]
    assert found.labels.tolist() == [0, 1, 2, 3]


def test_sheets_need_no_index(tmp_path: Path) -> None:
    folder = sheets(tmp_path)
    rows = ("train,sad,0,1,0,0,9,0,0,0,0,0,0", "train,happy,1,,,,,,,,,,")
    write(folder / "labels.csv", SHEET.replace("index,", ""), *rows)
    assert load(folder, "train").labels.tolist() == [4, 3]


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "fer2013.csv", "emotion,pixels", f"3,{PIXELS}")
    with pytest.raises(DataError, match=r"fer2013.csv, line 1: no column Usage"):
        load(path, "train")


def test_a_column_stands_once(tmp_path: Path) -> None:
    path = write(tmp_path / "fer2013.csv", f"{KAGGLE},emotion", f"3,{PIXELS},Training,4")
    with pytest.raises(DataError, match=r"fer2013.csv, line 1: more than one column emotion"):
        load(path, "train")


@pytest.mark.parametrize("split", ["train", "public_test"])
def test_missing_data_is_told_in_one_sentence(tmp_path: Path, split: str) -> None:
    with pytest.raises(DataError, match="no FER2013 data at"):
        load(tmp_path / "nowhere", split)
    with pytest.raises(DataError, match="holds no folder named for an emotion"):
        load(tmp_path, split)


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    (tmp_path / "train" / "sad").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "train" / "sad" / "big.png"), np.zeros((50, 48), np.uint8))
    with pytest.raises(DataError, match=r"big.png is no 48x48 image"):
        load(tmp_path, "train")


def test_each_emotion_has_its_column_of_votes() -> None:
    names = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
    assert tuple(VOTES[column] for column in VOTE_OF_EMOTION) == names
    assert EMOTIONS == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def test_votes_become_shares_and_a_majority() -> None:
    votes = np.zeros((4, 10), np.float32)
    votes[0, [0, 1]] = 4, 6  # happy
    votes[1, [3, 4]] = 5, 5  # a tie
    votes[2, [7, 0]] = 6, 4  # contempt, which FER2013 lacks
    votes[3] = np.nan
    assert ferplus_majority(votes).tolist() == [3, -1, -1, -1]
    shares = vote_shares(votes)
    np.testing.assert_allclose(shares[0], [0, 0, 0, 0.6, 0, 0, 0.4])
    assert shares[3].sum() == 0


def test_first_takes_so_many() -> None:
    faces = Faces(np.zeros((3, 48, 48), np.uint8), np.arange(3), np.zeros((3, 10), np.float32))
    assert faces.first(2).labels.tolist() == [0, 1]
    assert len(faces.first(None)) == 3
