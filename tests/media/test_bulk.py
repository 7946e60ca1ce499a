"""What `--ray` does before and after the cluster's part, which `make ray-test` covers."""

import os
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.media.cluster.folder import Folder
from service.media.cluster.output import SCHEMA, Output
from service.media.cluster.places import Place, find
from service.media.errors import JournalError, SourceError
from service.media.records import failed_record
from service.media.sources import PHOTO_SUFFIXES
from tests.conftest import PHOTO
from tests.media.conftest import Run

SUFFIXES = PHOTO_SUFFIXES, "photo"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", ".hidden.jpg", "notes.txt", "deeper/c.jpg", ".cache/d.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    return tmp_path / "photos"


@pytest.mark.parametrize("recursive", [False, True])
def test_a_uri_and_a_path_stand_for_the_same_photos(folder: Path, recursive: bool) -> None:
    here = find([str(folder)], recursive, *SUFFIXES)
    there = find([f"file://{folder}"], recursive, *SUFFIXES)
    assert here.sizes == there.sizes
    names = [str(Path(path).relative_to(folder)) for path in here.sizes]
    assert sorted(names) == ["a.PNG", "b.jpg", *["deeper/c.jpg"][:recursive]]
    assert there.name(str(folder / "b.jpg")) == f"file://{folder}/b.jpg"
    assert set(here.sizes.values()) == {5}


def test_a_named_photo_that_is_missing_is_kept_for_the_report(folder: Path) -> None:
    missing = str(folder / "none.jpg")
    assert find([missing, str(folder / "b.jpg")], False, *SUFFIXES).sizes == {
        missing: None,
        str(folder / "b.jpg"): 5,
    }


def test_a_name_that_is_no_utf_8_is_kept_for_the_report(folder: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"12345")
    files = find([str(folder)], False, *SUFFIXES)
    refusals = {Path(path).name: files.refusal(path) for path in files.sizes}
    assert refusals == {"a.PNG": None, "b.jpg": None, "caf\\xe9.jpg": "its name is no UTF-8"}
    with pytest.raises(SourceError, match="no UTF-8: hand it in as a path"):
        find([f"file://{folder}"], False, *SUFFIXES)
    with pytest.raises(SourceError, match=r"caf\\xe9"):
        Place.of(os.fsdecode(b"/caf\xe9"))


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_file_is_named_by_the_folder_handed_in_whatever_else_is_there(folder: Path, scheme: str) -> None:
    def named(*arguments: Path) -> list[str]:
        files = find([f"{scheme}{one}" for one in arguments], True, *SUFFIXES)
        return [files.below(path) for path in files.sizes]

    assert named(folder / "deeper") == named(folder / "deeper" / "c.jpg") == ["c.jpg"]
    assert named(folder / "deeper", folder) == ["deeper/c.jpg", "a.PNG", "b.jpg"]
    (folder / "a.PNG").unlink()
    (folder / "b.jpg").unlink()
    assert named(folder) == ["deeper/c.jpg"]


def test_what_cannot_be_one_run_is_refused(folder: Path) -> None:
    with pytest.raises(SourceError, match="mixed"):
        find([str(folder), f"file://{folder}"], False, *SUFFIXES)
    with pytest.raises(SourceError, match="no photo in"):
        find([f"file://{folder}/deeper"], False, frozenset(), "photo")
    with pytest.raises(SourceError, match="gopher"):
        find(["gopher://photos"], False, *SUFFIXES)


def test_the_output_is_the_checkpoint(tmp_path: Path) -> None:
    output = Output(Place.of(str(tmp_path / "out")))
    output.begin({"model": "one"}, restart=False)
    output.add([failed_record("a.jpg", "bad"), failed_record("b.jpg", "worse")])
    faces = [{"file": "c.jpg", "status": "ok", "faces": 2, "face": number} for number in range(2)]
    for name, rows in {"faces": faces, "empty": [{"file": "d.jpg", "status": "ok", "faces": 0}]}.items():
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), tmp_path / "out" / f"{name}.parquet")
    whole = (tmp_path / "out" / "faces.parquet").read_bytes()
    (tmp_path / "out" / "torn.parquet").write_bytes(whole[: len(whole) // 2])
    tally = output.tally()
    assert tally.photos == {"a.jpg": 1, "b.jpg": 1, "c.jpg": 1, "d.jpg": 1}
    assert tally.faces == 2
    assert sorted(tally.failures) == [("a.jpg", "bad"), ("b.jpg", "worse")]
    assert not (tmp_path / "out" / "torn.parquet").exists()
    (tmp_path / "out" / "twice.parquet").write_bytes(whole)
    assert output.tally().photos["c.jpg"] == 2


def test_somebodys_own_table_beside_the_output_is_not_removed(tmp_path: Path) -> None:
    output = Output(Place.of(str(tmp_path)))
    output.begin({"model": "one"}, restart=False)
    pq.write_table(pa.table({"emotion": ["happy"], "share": [0.5]}), tmp_path / "mine.parquet")
    with pytest.raises(JournalError, match=r"mine\.parquet is of no run"):
        output.tally()
    assert (tmp_path / "mine.parquet").exists()


def test_a_folder_belongs_to_one_run(tmp_path: Path) -> None:
    folder = Folder(Place.of(str(tmp_path)))
    folder.begin({"every_s": 0.2}, restart=False)
    folder.begin({"every_s": 0.2}, restart=False)
    folder.write("deep/film.summary.json", b"{}")
    for name in ("thesis.txt", "mine.jpg", "rows.parquet", "rows.parquet.part", "_report.json"):
        (tmp_path / name).touch()
    with pytest.raises(JournalError, match="--restart"):
        folder.begin({"every_s": 1.0}, restart=False)
    folder.begin({"every_s": 1.0}, restart=True)
    assert sorted(Path(path).name for path in folder.paths()) == ["_job.json", "mine.jpg", "thesis.txt"]


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(JournalError, match="of no run"):
        Folder(Place.of(str(tmp_path))).begin({}, restart=True)
    assert (tmp_path / "thesis.txt").exists()


def test_options_that_a_cluster_cannot_serve_are_refused(run: Run, tmp_path: Path) -> None:
    for option, value in {"--annotate": tmp_path, "--server": "http://localhost", "--format": "csv"}.items():
        refused = run("analyze", PHOTO, "--ray", "auto", "--out", tmp_path / "out", option, value)
        assert refused.exit_code == 2
        assert f"{option.strip('-')} does not go with --ray" in refused.stderr
    refused = run("video", "film.mp4", "--ray", "auto", "--summary", "s.json", "--out", tmp_path / "out")
    assert "summary does not go with --ray" in refused.stderr
    assert "more than one film does not go without --ray" in run("video", "a.mp4", "b.mp4").stderr
    assert "say where with --out" in run("analyze", PHOTO, "--ray", "auto").stderr


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed here")
def test_without_the_extra_there_is_one_line(run: Run, tmp_path: Path) -> None:
    for command in ("analyze", "video"):
        refused = run(command, PHOTO, "--ray", "auto", "--out", tmp_path / "out")
        assert refused.exit_code == 2
        assert refused.stderr.strip().endswith("pip install -e '.[ray]' in a checkout")
        assert len(refused.stderr.strip().splitlines()) == 1
