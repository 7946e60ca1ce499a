"""`fer-service analyze --ray` on two nodes that are killed while it runs."""

import json
import os
import signal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.media.analyzers import LocalAnalyzer
from service.media.cluster.output import SCHEMA, Output
from service.media.cluster.places import Place
from service.media.records import photo_record, photo_rows
from service.runtime.model_store import ModelStore
from service.vision.pipeline import AnalysisOptions
from tests.ray.cluster import ADDRESS, Cluster
from tests.ray.photos import make
from tests.ray.waiting import PATIENCE_S, until

PHOTOS = int(os.environ.get("RAY_PHOTOS", "300"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make(tmp_path_factory.mktemp("photos"), PHOTOS)


def test_each_photo_once_though_an_actor_and_a_node_are_killed(
    cluster: Cluster, photos: list[Path], tmp_path: Path
) -> None:
    folder, out = photos[0].parents[1], tmp_path / "out"
    bad = [folder / "nonsense.jpg", folder / "empty.jpg", folder / "cut.jpg"]
    for path, data in zip(bad, (b"nonsense", b"", photos[0].read_bytes()[:900]), strict=True):
        path.write_bytes(data)
    job = cluster.run("fer-service", "analyze", folder, "-r", "--ray", ADDRESS, "--out", out)
    until("a first tenth", lambda: _done(out) >= PHOTOS // 10)
    (actor, *_) = cluster.processes("PhotoActor")
    actor.send_signal(signal.SIGKILL)
    until("a third", lambda: _done(out) >= PHOTOS // 3)
    cluster.worker.kill()
    cluster.add_worker()
    assert job.wait() == 1  # some photos failed
    _check(out, [*photos, *bad], failed=len(bad))
    listed = [json.loads(line)["file"] for line in (out / "_failures.jsonl").read_text().splitlines()]
    assert sorted(listed) == sorted(map(str, bad))
    for path in bad:
        path.unlink()


def test_a_run_whose_driver_was_killed_goes_on(cluster: Cluster, photos: list[Path], tmp_path: Path) -> None:
    some, out = photos[:96], tmp_path / "out"
    command = ("fer-service", "analyze", *some, "--ray", ADDRESS, "--out", out)
    first = cluster.run(*command)
    until("a first file", lambda: _done(out) > 0)
    first.send_signal(signal.SIGSTOP)  # or it may be done before the second one is there
    refused = cluster.run(*command, stderr=-1)
    assert refused.communicate()[1].strip().endswith(f"another run is writing to {out}")
    assert refused.returncode == 2
    first.send_signal(signal.SIGKILL)
    first.wait()
    kept = {path for path in out.glob("*.parquet") if _whole(path)}
    assert 0 < _done(out) < len(some)
    assert cluster.run(*command).wait() == 0
    assert kept <= set(out.glob("*.parquet"))
    _check(out, some, failed=0)


def test_rows_are_those_of_a_run_without_a_cluster(
    cluster: Cluster, photos: list[Path], tmp_path: Path
) -> None:
    there, analyzer = tmp_path / "there", LocalAnalyzer.load(ModelStore.open(), AnalysisOptions())
    assert cluster.run("fer-service", "analyze", *photos[:5], "--ray", ADDRESS, "--out", there).wait() == 0
    records = (
        photo_record(str(path), analyzer.photo(path.read_bytes()), analyzer.model) for path in photos[:5]
    )
    here = pa.Table.from_pylist([row for record in records for row in photo_rows(record)], schema=SCHEMA)
    assert pq.read_table(there).sort_by("file").to_pylist() == here.to_pylist()


def test_a_photo_that_kills_its_worker_is_a_failure_and_costs_no_other(
    cluster: Cluster, photos: list[Path], tmp_path: Path
) -> None:
    out, folder = tmp_path / "out", tmp_path / "photos"
    folder.mkdir()
    for path in photos[:20]:
        (folder / path.name).write_bytes(path.read_bytes())
    poison = folder / "poison.jpg"
    poison.write_bytes(photos[0].read_bytes())
    assert cluster.run("python", "-m", "tests.ray.poison", ADDRESS, folder, out).wait() == 0
    tally = _check(out, [*folder.iterdir()], failed=1)
    assert tally == [(str(poison), "its worker died 3 times")]


def test_a_photo_that_is_gone_or_has_a_name_that_ray_cannot_read_is_a_failure(
    cluster: Cluster, photos: list[Path], tmp_path: Path
) -> None:
    out, folder = tmp_path / "out", tmp_path / "photos"
    folder.mkdir()
    for name in ("good.jpg", "gone.jpg", "line\nbreak.jpg"):
        (folder / name).write_bytes(photos[0].read_bytes())
    assert cluster.run("python", "-m", "tests.ray.poison", ADDRESS, folder, out).wait() == 0
    (told, gone), (line, break_) = sorted(_check(out, [*folder.iterdir(), folder / "gone.jpg"], failed=2))
    assert (told, line) == (str(folder / "gone.jpg"), str(folder / "line\nbreak.jpg"))
    assert "No such file" in gone
    assert break_.startswith("Ray cannot read a path with a tab or a line break")


def test_one_free_cpu_is_enough(cluster: Cluster, photos: list[Path], tmp_path: Path) -> None:
    holder = cluster.run("python", "-m", "tests.ray.holder", ADDRESS, stdin=-1, stdout=-1)
    assert holder.stdout
    assert "held\n" in holder.stdout
    job = cluster.run("fer-service", "analyze", *photos[:20], "--ray", ADDRESS, "--out", tmp_path / "out")
    try:
        assert job.wait(PATIENCE_S) == 0
    finally:
        job.kill()
        holder.communicate()


def test_sigterm_interrupts_a_run_as_it_does_without_a_cluster(
    cluster: Cluster, photos: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    job = cluster.run("fer-service", "analyze", *photos[:96], "--ray", ADDRESS, "--out", out, stderr=-1)
    until("a first file", lambda: _done(out) > 0)
    job.send_signal(signal.SIGTERM)
    told = job.communicate()[1].strip()
    assert told.endswith("fer-service: interrupted; with --out, the same command goes on from here")
    assert job.returncode == 130


@pytest.mark.parametrize("address", ["", "ray://127.0.0.2:6380"])
def test_what_is_no_address_is_told_in_one_line(cluster: Cluster, tmp_path: Path, address: str) -> None:
    command = ("fer-service", "analyze", tmp_path, "--ray", address, "--out", tmp_path / "out")
    (tmp_path / "a.jpg").write_bytes(b"")
    told = cluster.run(*command, stderr=-1).communicate()[1]
    assert told.strip().endswith("an address is auto, or HOST:PORT")


def test_a_folder_whose_name_ray_would_change_is_refused(
    cluster: Cluster, photos: list[Path], tmp_path: Path
) -> None:
    command = ("fer-service", "analyze", photos[0], "--ray", ADDRESS, "--out", tmp_path / "what?")
    refused = cluster.run(*command, stderr=-1)
    assert refused.communicate()[1].strip().endswith("choose another folder")
    assert (refused.returncode, list(tmp_path.iterdir())) == (2, [])


def test_a_cluster_that_is_not_there_is_told_in_one_line(cluster: Cluster, tmp_path: Path) -> None:
    command = ("fer-service", "analyze", tmp_path, "--ray", "127.0.0.2:1", "--out", tmp_path / "out")
    (tmp_path / "a.jpg").write_bytes(b"")
    told = cluster.run(*command, stderr=-1).communicate()[1]
    assert told.strip().splitlines()[-1].startswith("fer-service: no Ray cluster answers at 127.0.0.2:1")


def _check(out: Path, photos: list[Path], failed: int) -> list[tuple[str, str]]:
    """Each photo is in the output exactly once, and each good one with its face."""
    tally = Output(Place.of(str(out))).tally()
    assert tally.photos == {str(path): 1 for path in photos}
    assert len(tally.failures) == failed
    rows = pq.read_table(out, columns=["file", "status", "faces", "face"]).to_pylist()
    assert all(row["faces"] == 1 and row["face"] == 0 for row in rows if row["status"] == "ok")
    report = json.loads((out / "_report.json").read_text())
    assert (report["complete"], report["photos"], report["failed"]) == (True, len(photos), failed)
    return tally.failures


def _done(out: Path) -> int:
    """Photos in the files that are whole, read without touching any."""
    return sum(pq.read_metadata(path).num_rows for path in out.glob("*.parquet") if _whole(path))


def _whole(path: Path) -> bool:
    data = path.read_bytes()
    return len(data) > 8 and data[-4:] == b"PAR1"
