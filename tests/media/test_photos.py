"""`fer-service analyze`: past bad files, resumed without loss or doubles, the same through a server."""

import csv
import io
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from PIL import Image

from service.media.analyzers import Analyzer, LocalAnalyzer
from service.media.errors import JournalError, MissingExtraError, SourceError, media_extra
from service.media.journal import Journal
from service.media.photos import PhotoRun, run_photos
from service.media.records import failed_record
from service.media.run import Annotations, Report
from service.media.sources import common_folder, find_photos
from service.media.writers import PhotoFormat, photo_writer
from tests.conftest import PHOTO, Serve
from tests.media.conftest import Interrupted, Run

IDENTITY = {"model": "x"}
ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, photo: bytes) -> Path:
    """Good photos, bad ones, and what is no photo."""
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    for name in ("a.jpg", "b.JPG", "deeper/e.jpg"):
        (folder / name).write_bytes(photo)
    (folder / "c.jpg").write_bytes(photo[:20_000])
    (folder / "d.png").write_bytes(b"")
    Image.new("RGB", (120, 90), "gray").save(folder / "f.webp")
    (folder / "notes.txt").write_text("no photo")
    (folder / ".hidden.jpg").write_bytes(photo)
    return folder


def records(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_a_photo_that_is_named_from_here_and_from_the_root_is_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    once = [Path("a.jpg"), Path("c.jpg")]
    assert find_photos(["a.jpg", "*.jpg", f"{folder}/*.jpg", "./a.jpg"], recursive=False) == once


def test_folders_globs_and_files_are_found_once_and_in_order(folder: Path) -> None:
    flat = ["a.jpg", "b.JPG", "c.jpg", "d.png", "f.webp"]
    assert names(find_photos([str(folder)], recursive=False)) == flat
    assert names(find_photos([str(folder)], recursive=True)) == [*flat, "e.jpg"]
    assert names(find_photos([f"{folder}/*.jpg", f"{folder}/a.jpg"], recursive=False)) == ["a.jpg", "c.jpg"]
    assert names(find_photos([f"{folder}/**/e.*"], recursive=False)) == ["e.jpg"]
    assert names(find_photos([f"{folder}/notes.txt", f"{folder}/gone.jpg"], recursive=False)) == [
        "notes.txt", "gone.jpg"
    ]  # fmt: skip
    inside = find_photos([str(folder)], recursive=True, exclude=folder / "deeper")
    assert names(inside) == flat
    # What is left out is met on the way; a folder that has all photos in it is not.
    for argument in (f"{folder}/**/*.*", f"{folder}/deeper", f"{folder}/deeper/e.jpg"):
        assert "e.jpg" in names(find_photos([argument], recursive=True, exclude=folder))
    assert "e.jpg" not in names(find_photos([f"{folder}/**/*.*"], recursive=True, exclude=folder / "deeper"))


def test_a_folder_that_cannot_be_listed_is_told(run: Run, tmp_path: Path, photo: bytes) -> None:
    """Here one with a path of more than 4096 bytes; on other days a permission or a network is missing."""
    (tmp_path / "a.jpg").write_bytes(photo)
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=here)
        inner = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    result = run("analyze", tmp_path, "--recursive")
    assert result.exit_code == 1
    assert "2 photos, 1 faces, 1 failed" in result.stderr
    assert "ddd: File name too long" in result.stderr
    assert run("analyze", tmp_path).exit_code == 0


def test_a_pattern_without_a_photo_is_told(folder: Path) -> None:
    for argument in (f"{folder}/*.tiff", str(folder.parent)):
        with pytest.raises(SourceError, match="no photo in"):
            find_photos([argument], recursive=False)


def test_an_empty_name_is_not_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(SourceError, match="no photo in '' "):
        find_photos([""], recursive=False)


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such terminals")
def test_the_bar_on_the_terminal_takes_nothing_of_what_is_piped(photo: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(photo)
    terminal, theirs = os.openpty()
    command = [sys.executable, "-m", "service.cli", "analyze", str(tmp_path), "--format", "jsonl"]
    process = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=theirs, timeout=120, check=True, cwd=ROOT
    )
    os.close(theirs)
    assert b"1/1" in os.read(terminal, 100_000)
    os.close(terminal)
    assert [len(record["faces"]) for record in records(process.stdout.decode())] == [1]


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such pipes")
def test_output_that_nobody_reads_ends_the_run_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "service.cli", "analyze", str(PHOTO)]
    process = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, timeout=120, check=False, cwd=ROOT
    )
    os.close(writer)
    assert (process.returncode, process.stderr) == (141, b"")


@pytest.mark.parametrize(("options", "code"), [([], 2), (["--out", "faces.csv"], 0)])
def test_a_run_without_standard_output(tmp_path: Path, options: list[str], code: int) -> None:
    command = [sys.executable, "-c", "import sys; sys.stdout = None; from service.cli import main; main()"]
    process = subprocess.run(
        [*command, "analyze", str(PHOTO), *options],
        capture_output=True, timeout=120, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.returncode == code
    assert process.stderr.count(b"\n") == 1


def test_bad_files_are_passed_over_and_listed(run: Run, folder: Path) -> None:
    result = run("analyze", folder, folder / "gone.jpg", "--format", "jsonl", "--recursive")
    assert result.exit_code == 1
    found = {Path(record["file"]).name: record for record in records(result.stdout)}
    assert {name: record["status"] for name, record in found.items()} == {
        "a.jpg": "ok", "b.JPG": "ok", "c.jpg": "error", "d.png": "error", "e.jpg": "ok", "f.webp": "ok",
        "gone.jpg": "error",
    }  # fmt: skip
    assert [len(found[name]["faces"]) for name in ("a.jpg", "f.webp")] == [1, 0]
    assert "7 photos, 3 faces, 3 failed" in result.stderr
    assert "does not decode" in found["c.jpg"]["error"]
    assert all(
        f"{record['file']}: {record['error']}" in result.stderr
        for record in found.values()
        if "error" in record
    )


def test_a_file_that_kills_its_decoder_fails_alone(run: Run) -> None:
    result = run(
        "analyze", PHOTO.parents[1] / "corpus" / "segmentation-fault.heic", PHOTO, "--format", "jsonl"
    )
    assert [record["status"] for record in records(result.stdout)] == ["error", "ok"]


def test_a_photo_that_meets_a_fault_fails_alone(analyzer: LocalAnalyzer, folder: Path) -> None:
    faulty, out = Interrupted(analyzer, at=1, by=ZeroDivisionError), folder / "out.jsonl"
    report = _run([folder / "a.jpg", folder / "b.JPG"], out, faulty)
    assert report.failures == [(str(folder / "a.jpg"), "ZeroDivisionError: stopped here")]
    assert [record["status"] for record in records(out.read_text())] == ["error", "ok"]


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such pipes")
def test_what_has_no_end_or_is_too_large_is_not_read(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with (tmp_path / "vast.jpg").open("wb") as file:
        file.truncate(200_000_001)
    told = run("analyze", tmp_path).stderr
    assert "pipe.jpg: not a file" in told
    assert "vast.jpg: larger than 200000000 bytes" in told


def test_nothing_failed_is_zero(run: Run) -> None:
    result = run("analyze", PHOTO)
    assert result.exit_code == 0
    assert "happy" in result.stdout
    assert "1 photos, 1 faces, 0 failed" in result.stderr


def test_the_settings_limit_of_pixels_holds_here_too(run: Run) -> None:
    result = run("analyze", PHOTO, "--format", "jsonl", FER_MAX_PIXELS="10000")
    assert result.exit_code == 1
    assert "512 x 512" in records(result.stdout)[0]["error"]


@pytest.mark.parametrize(
    "option",
    ["--min-face-size=inf", "--min-face-size=nan", "--min-face-size=65536", "--min-confidence=nan",
     "--max-faces=100001"],
)  # fmt: skip
@pytest.mark.parametrize("command", ["analyze", "video"])
def test_options_have_the_bounds_of_the_servers(run: Run, command: str, option: str) -> None:
    result = run(command, PHOTO, option)
    assert result.exit_code == 2
    assert option.partition("=")[0] in result.stderr


def test_a_photo_answers_as_the_wire_does(run: Run, client: httpx.Client, photo: bytes) -> None:
    (record,) = records(run("analyze", PHOTO, "--format", "jsonl").stdout)
    answer = client.post("/detect-emotions", content=photo).json()
    assert record["image"] == answer["image"]
    assert record["faces"] == answer["faces"]
    assert record["model"] == answer["model"]


def test_every_format_tells_the_same(run: Run, folder: Path, tmp_path: Path) -> None:
    outputs = {kind: tmp_path / f"out.{kind}" for kind in ("json", "jsonl", "csv", "parquet")}
    for path in outputs.values():
        assert run("analyze", folder, "--out", path).exit_code == 1
    lines = records(outputs["jsonl"].read_text())
    assert json.loads(outputs["json"].read_text()) == lines
    rows = list(csv.DictReader(io.StringIO(outputs["csv"].read_text())))
    assert [row["file"] for row in rows] == [line["file"] for line in lines]
    assert [row["faces"] for row in rows] == ["1", "1", "", "", "0"]
    face = lines[0]["faces"][0]
    assert float(rows[0]["happy"]) == face["probabilities"]["happy"]
    assert rows[0]["model"] == lines[0]["model"]["name"]
    assert float(rows[0]["left_eye_x"]) == face["landmarks"]["left_eye"]["x"]
    table = pq.read_table(outputs["parquet"]).to_pylist()
    assert [{name: _text(value) for name, value in row.items()} for row in table] == rows


def _text(value: object) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def test_parquet_needs_a_file(run: Run) -> None:
    result = run("analyze", PHOTO, "--format", "parquet")
    assert result.exit_code == 2
    assert result.stderr == "fer-service: parquet is no text: say where it goes with --out\n"


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("other.jpg", "named as a photo is"),  # as `--out *.jpg` becomes
        ("a.csv", "is read in this run"),
        ("a.csv.gz", "has a suffix of no format"),  # and is no table for people
        ("deeper", "is a folder"),
        ("piped.csv", "piped.csv is no regular file"),  # as /dev/stdout leads to a pipe
        ("a" * 300, "File name too long"),
    ],
)
def test_no_photo_becomes_a_table(run: Run, folder: Path, photo: bytes, out: str, told: str) -> None:
    (folder / "a.csv").write_bytes(photo)  # whatever it is called
    (folder / "piped.csv").symlink_to(os.devnull)
    result = run("analyze", folder / "a.csv", "--out", folder / out)
    assert result.exit_code == 2
    assert told in result.stderr
    assert (folder / "a.csv").read_bytes() == photo


def test_a_missing_extra_is_one_line_that_says_what_to_install() -> None:
    told = pytest.raises(MissingExtraError, match=r"needs the package av: pip install -e '\.\[media\]' in a")
    with told, media_extra("fer-service video"):
        raise ModuleNotFoundError("No module named 'av'", name="av")


def test_annotated_pictures_mirror_the_folders_and_spare_the_photos(run: Run, folder: Path) -> None:
    target = folder / "annotated"
    for _ in range(2):  # the second time, the pictures of the first must not be taken for photos
        assert "6 photos" in run("analyze", folder, "-r", "--annotate", target).stderr
    made = sorted(str(path.relative_to(target)) for path in target.rglob("*.*"))
    assert made == ["a.jpg", "b.JPG", "deeper/e.jpg", "f.webp.jpg"]
    with Image.open(target / "a.jpg") as picture:
        assert picture.size == (512, 512)
    before = (folder / "a.jpg").read_bytes()
    with pytest.raises(SourceError, match="would overwrite the photos"):
        Annotations.beside(folder, [folder / "a.jpg"], str(folder))
    assert run("analyze", folder / "a.jpg", "--annotate", folder).exit_code == 2
    assert (folder / "a.jpg").read_bytes() == before


def test_links_in_a_circle_cost_no_annotated_picture(run: Run, photo: bytes, tmp_path: Path) -> None:
    photos, target = tmp_path / "photos", tmp_path / "photos" / "annotated"
    target.mkdir(parents=True)
    (photos / "a.jpg").write_bytes(photo)
    (photos / "circle.jpg").symlink_to("circle.jpg")
    result = run("analyze", photos, "-r", "--annotate", target)
    assert "2 photos, 1 faces, 1 failed" in result.stderr
    assert "circle.jpg: Too many levels of symbolic links" in result.stderr
    assert (target / "a.jpg").exists()
    (tmp_path / "circle").symlink_to("circle")
    assert "circle: File exists" in run("analyze", photos, "--annotate", tmp_path / "circle").stderr


def test_a_picture_has_its_place_whatever_else_is_in_the_folder(
    run: Run, photo: bytes, tmp_path: Path
) -> None:
    (tmp_path / "photos" / "2026").mkdir(parents=True)
    (tmp_path / "photos" / "2026" / "a.jpg").write_bytes(photo)
    for arguments in ([tmp_path / "photos", "-r"], [tmp_path / "photos" / "*" / "*.jpg"]):
        assert run("analyze", *arguments, "--annotate", tmp_path / "to").exit_code == 0
        assert (tmp_path / "to" / "2026" / "a.jpg").exists()
        shutil.rmtree(tmp_path / "to")


def test_a_file_is_no_folder_for_pictures(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("analyze", PHOTO, "--annotate", tmp_path / "file", "--out", tmp_path / "faces.csv")
    assert (result.exit_code, result.stderr) == (2, f"fer-service: {tmp_path / 'file'}: File exists\n")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_photo_too_long_to_be_annotated_keeps_its_record(run: Run, tmp_path: Path) -> None:
    Image.new("1", (65_501, 16)).save(tmp_path / "long.png")
    result = run("analyze", tmp_path / "long.png", "--annotate", tmp_path / "to", "--format", "jsonl")
    assert result.exit_code == 1
    (record,) = records(result.stdout)
    assert record["status"] == "ok"
    assert record["not_annotated"] == "not annotated: a JPEG has at most 65500 pixels a side"
    assert f"long.png: {record['not_annotated']}" in result.stderr


def test_no_annotated_picture_leaves_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = folder.parent / "annotated"
    monkeypatch.chdir(folder / "deeper")
    above, here = Path("../a.jpg"), Path("e.jpg")
    places = Annotations.beside(target, [above, here], str(folder))
    assert [places.of(photo) for photo in (above, here)] == [target / "a.jpg", target / "deeper" / "e.jpg"]


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_link_to_a_photo_is_not_written_through(folder: Path, link: Callable[[Path, Path], None]) -> None:
    target = folder.parent / "annotated"
    target.mkdir()
    link(target / "a.jpg", folder / "b.JPG")
    with pytest.raises(SourceError, match="would overwrite the photos"):
        Annotations.beside(target, [folder / "a.jpg", folder / "b.JPG"], str(folder))


@pytest.mark.parametrize("pattern", ["a/*/../../b/*.jpg", "a/**/../b/*.jpg", "b/*.jpg"])
def test_what_a_pattern_leads_to_is_in_the_common_folder(tmp_path: Path, pattern: str) -> None:
    assert tmp_path.joinpath("b").is_relative_to(common_folder([f"{tmp_path}/{pattern}"]))


def test_two_photos_never_share_an_annotated_picture(folder: Path) -> None:
    photo, twin = folder / "f.webp", folder / "f.webp.jpg"
    shutil.copy(folder / "a.jpg", twin)
    with pytest.raises(SourceError, match="would both be annotated as"):
        Annotations.beside(folder.parent / "annotated", [photo, twin], str(folder))
    # The same photo, named in two ways, is no other photo.
    again = folder / "deeper" / ".." / "f.webp"
    Annotations.beside(folder.parent / "annotated", [photo, again], str(folder))


def test_an_interrupted_run_goes_on_without_doubles_or_loss(analyzer: LocalAnalyzer, folder: Path) -> None:
    photos = find_photos([str(folder)], recursive=True)
    whole, out = folder.parent / "whole.jsonl", folder.parent / "out.jsonl"
    _run(photos, whole, analyzer)

    stopped = Interrupted(analyzer, at=3)
    with pytest.raises(KeyboardInterrupt):
        _run(photos, out, stopped)
    assert not out.exists()
    done = _journal_path(out).read_text().count('"status": "ok"')
    assert done == 2

    going_on = Interrupted(analyzer)
    report = _run(photos, out, going_on)
    assert out.read_text() == whole.read_text()
    assert (report.photos, report.faces, report.failed) == (6, 3, 2)
    # Each photo is sent once in all; the two that do not decode are tried again with those that were left.
    assert going_on.calls == 6 - done
    assert not _journal_path(out).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems know no such names")
@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "parquet", "table"])
def test_a_name_that_is_not_utf_8_is_written_readably(
    run: Run, photo: bytes, tmp_path: Path, kind: str
) -> None:
    named = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))
    named.write_bytes(photo)
    out = tmp_path / f"out.{kind}"
    result = run("analyze", named, named.with_name("caf\udcea.jpg"), "--out", out)
    assert result.exit_code == 1, result.stderr
    assert r"caf\xea.jpg: No such file" in result.stderr
    found = str(pq.read_table(out).to_pylist()) if kind == "parquet" else out.read_text()
    assert r"caf\xe9.jpg" in found.replace(r"\\", "\\")


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems know no such names")
def test_a_run_goes_on_past_a_name_that_is_not_utf_8(analyzer: LocalAnalyzer, folder: Path) -> None:
    photos = [folder / os.fsdecode(name) for name in (b"caf\xe9.jpg", rb"caf\xe9.jpg")]
    shutil.copy(folder / "a.jpg", photos[0])
    shutil.copy(folder / "f.webp", photos[1])
    out = folder.parent / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        _run(photos, out, Interrupted(analyzer, at=2))
    going_on = Interrupted(analyzer)
    _run(photos, out, going_on)
    assert going_on.calls == 1
    found = records(out.read_text())
    assert [Path(record["file"]).name for record in found] == [r"caf\xe9.jpg"] * 2
    assert [len(record["faces"]) for record in found] == [1, 0]


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems know no such names")
def test_a_name_with_a_line_break_keeps_to_its_line(run: Run, photo: bytes, tmp_path: Path) -> None:
    named = tmp_path / "one\ntwo\x1b[31m.jpg"
    named.write_bytes(photo)
    result = run("analyze", named, named.with_name("three\nfour.jpg"))
    assert r"one\ntwo\x1b[31m.jpg  86x" in result.stdout
    assert r"three\nfour.jpg: No such file" in result.stderr
    assert result.stdout.count("\n") == 2
    assert run("video", named.with_name("a\nb.mp4")).stderr.count("\n") == 1
    (record, _) = json.loads(run("analyze", named, "gone.jpg", "--format", "json").stdout)
    assert record["file"] == str(named)


def test_a_reason_with_a_line_break_keeps_to_its_line() -> None:
    """As a service that is not ours may tell it."""
    stream = io.StringIO()
    photo_writer("table", stream, None).write(failed_record("a.jpg", "not\nnow"))
    assert stream.getvalue() == "a.jpg  failed: not\\nnow\n"


@pytest.mark.parametrize(("kind", "told"), [("table", r"\u65e5"), ("jsonl", "日"), ("csv", "日")])
def test_a_name_that_the_locale_has_no_letters_for_ends_no_run(
    analyzer: LocalAnalyzer, tmp_path: Path, photo: bytes, kind: PhotoFormat, told: str
) -> None:
    named, written = tmp_path / "日.jpg", io.BytesIO()
    named.write_bytes(photo)
    with redirect_stdout(io.TextIOWrapper(written, "ascii", write_through=True)) as stdout:
        report = run_photos(PhotoRun([named], kind, None, 1, None), analyzer, None)
        stdout.flush()
        assert report.failed == 0
        assert told in written.getvalue().decode()


def test_half_a_line_and_a_changed_photo_are_done_again(analyzer: LocalAnalyzer, folder: Path) -> None:
    photos, out = find_photos([str(folder)], recursive=True), folder.parent / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        _run(photos, out, Interrupted(analyzer, at=6))
    path = _journal_path(out)
    assert path.read_text().count('"status": "ok"') == 3
    path.write_bytes(path.read_bytes()[:-30])
    shutil.copy(folder / "f.webp", folder / "a.jpg")
    with pytest.raises(KeyboardInterrupt):
        _run(photos, out, Interrupted(analyzer, at=3))
    again = Interrupted(analyzer)
    _run(photos, out, again)
    # What followed upon the half line is kept: a.jpg and b.JPG are done.
    assert again.calls == 4
    found = records(out.read_text())
    assert [record["file"] for record in found] == [str(path) for path in photos]
    assert found[0]["faces"] == []
    assert found[1]["faces"]


def test_a_journal_of_another_run_is_not_mixed_in(run: Run, folder: Path) -> None:
    out = folder.parent / "out.csv"
    Journal(_journal_path(out), {"model": "another"}).close()
    with pytest.raises(JournalError):
        Journal(_journal_path(out), IDENTITY)
    refused = run("analyze", folder, "--out", out)
    assert refused.exit_code == 2
    assert "--restart" in refused.stderr
    assert run("analyze", folder, "--out", out, "--restart").exit_code == 1
    assert out.exists()


@pytest.mark.parametrize("text", [b"notes of mine\n", b"notes of mine", b"[1]\n"])
def test_what_is_no_journal_is_not_wiped(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "out.csv.journal.jsonl"
    path.write_bytes(text)
    with pytest.raises(JournalError, match="begin again with --restart"):
        Journal(path, IDENTITY)
    assert path.read_bytes() == text


@pytest.mark.parametrize("length", [0, 1, 10])
def test_a_journal_that_was_cut_short_in_its_first_line_is_begun_again(tmp_path: Path, length: int) -> None:
    path = tmp_path / "out.csv.journal.jsonl"
    Journal(path, IDENTITY).close()
    path.write_bytes(path.read_bytes()[:length])
    for _ in range(2):
        Journal(path, IDENTITY).close()


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such locks")
def test_a_second_run_at_the_same_time_is_told_who_has_the_output(run: Run, folder: Path) -> None:
    out = folder.parent / "out.csv"
    path, told = _journal_path(out), f"another run, process {os.getpid()} on {socket.gethostname()}"
    first = Journal(path, IDENTITY)
    first.append({"file": "a.jpg", "status": "ok"}, (1, 2))
    assert b'"a.jpg"' in path.read_bytes()  # at once: a process that is killed writes no more
    for options in ([], ["--restart"]):
        refused = run("analyze", folder, "--out", out, *options)
        assert refused.exit_code == 2
        assert refused.stderr == f"fer-service: {path} is being written to by {told}\n"
    first.close()
    going_on = Journal(path, IDENTITY)
    assert going_on.done("a.jpg", (1, 2))
    going_on.remove()
    assert run("analyze", folder, "--out", out).exit_code == 1
    assert not path.exists()


def test_a_server_gives_the_same_output(run: Run, client: httpx.Client, folder: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    options = ("--min-confidence", "0.5", "--max-faces", "3", "--min-face-size", "60", "--model", "balanced")
    assert run("analyze", folder, "-r", "--out", here, *options).exit_code == 1
    assert run("analyze", folder, "-r", "--out", there, "--server", client.base_url, *options).exit_code == 1
    good_here, good_there = (
        [r for r in records(p.read_text()) if r["status"] == "ok"] for p in (here, there)
    )
    assert good_here == good_there
    bad_here, bad_there = (
        [r["file"] for r in records(p.read_text()) if r["status"] != "ok"] for p in (here, there)
    )
    assert bad_here == bad_there


def test_the_key_comes_from_the_environment(run: Run, serve: Serve) -> None:
    with serve(api_keys="secret") as client:
        url = str(client.base_url)
        refused = run("analyze", PHOTO, "--server", url)
        assert refused.exit_code == 2
        assert "X-API-Key" in refused.stderr
        assert "1 faces" in run("analyze", PHOTO, "--server", url, FER_CLIENT_API_KEY="secret").stderr
        unknown = run("analyze", PHOTO, "--server", url, "--model", "none", FER_CLIENT_API_KEY="secret")
        assert unknown.exit_code == 2
        assert "no model 'none'" in unknown.stderr


@pytest.mark.parametrize("command", ["analyze", "video"])
def test_an_empty_server_is_not_this_process(run: Run, command: str) -> None:
    refused = run(command, PHOTO, "--server", "")
    assert refused.exit_code == 2
    assert "'' is no URL of a server" in refused.stderr


def _journal_path(out: Path) -> Path:
    return out.with_name(out.name + ".journal.jsonl")


def _run(photos: list[Path], out: Path, analyzer: Analyzer) -> Report:
    journal = Journal(_journal_path(out), IDENTITY)
    try:
        return run_photos(PhotoRun(photos, "jsonl", out, 1, None), analyzer, journal)
    finally:
        journal.close()
