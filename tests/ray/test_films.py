"""`fer-service video --ray`: a film to a task."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq

from tests.media import clip
from tests.ray.cluster import ADDRESS, Cluster


def test_nodes_with_another_model_end_the_run(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"")
    command = ("python", "-m", "tests.ray.other_model", ADDRESS, tmp_path, tmp_path / "out")
    told = cluster.run(*command, stderr=-1).communicate()[1]
    assert "ClusterError: the run stopped, and can go on: a node has model" in told


def test_films_are_what_they_are_without_a_cluster(cluster: Cluster, tmp_path: Path) -> None:
    films, out, alone = tmp_path / "films", tmp_path / "out", tmp_path / "alone.parquet"
    (films / "deeper").mkdir(parents=True)
    film = clip.write(films / "act.mp4", [clip.frame(pose) for pose, _ in clip.act()])
    shutil.copy(film, films / "deeper" / "again.mp4")
    (films / "broken.mp4").write_bytes(film.read_bytes()[:500])
    command = ("fer-service", "video", films, "-r", "--ray", ADDRESS, "--out", out, "--every", "0.5s")
    assert cluster.run(*command).wait() == 1
    assert cluster.run("fer-service", "video", film, "--every", "0.5s", "--out", alone).wait() == 0
    for name in ("act.mp4", "deeper/again.mp4"):
        assert pq.read_table(out / f"{name}.parquet").equals(pq.read_table(alone))
        assert json.loads((out / f"{name}.summary.json").read_text())["complete"]
        assert (out / f"{name}.timeline.png").read_bytes().startswith(b"\x89PNG")
    (failure,) = map(json.loads, (out / "_failures.jsonl").read_text().splitlines())
    assert failure["file"] == str(films / "broken.mp4")

    before = (out / "act.mp4.parquet").stat().st_mtime_ns
    shutil.copy(film, films / "broken.mp4")
    assert cluster.run(*command).wait() == 0
    assert (out / "act.mp4.parquet").stat().st_mtime_ns == before
    assert (out / "_failures.jsonl").read_text() == ""
