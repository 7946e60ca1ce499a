"""What the metrics say of faces, of readiness and of the container's CPU quota."""

import math
import platform
import resource
from pathlib import Path

import numpy as np
import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from service.telemetry.cgroup import CpuQuotaCollector, MemoryLimitCollector
from service.telemetry.metrics import STAGES, Metrics, entropy_ratio
from service.telemetry.process import ProcessCollector
from service.vision.types import Analysis, AnalyzedFace, Box, Face, Landmarks, Point, Timings
from tests.conftest import Serve

V2 = "usage_usec 9\nnr_periods 40\nnr_throttled 7\nthrottled_usec 2500000\n"
V1 = "nr_periods 40\nnr_throttled 7\nthrottled_time 2500000000\n"
NO_QUOTA = "usage_usec 9\nuser_usec 4\nsystem_usec 5\n"


def metrics() -> Metrics:
    return Metrics(queued=lambda: 0, inflight=lambda: 0, streams=lambda: 0, ready=lambda: 1)


def value(metrics: Metrics, series: str, /, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(series, labels)


def analyzed(width: int, height: int, probabilities: tuple[float, ...], uncertain: bool) -> AnalyzedFace:
    point = Point(0, 0)
    face = Face(Box(0, 0, width, height), (0, 0, 1, 1), 1.0, Landmarks(point, point, point, point, point))
    return AnalyzedFace(face, probabilities, uncertain, np.zeros((48, 48), np.uint8))


def test_faces_are_counted_by_what_drift_shows_in() -> None:
    sure, unsure = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0), (1 / 7,) * 7
    faces = (analyzed(100, 400, sure, False), analyzed(30, 30, unsure, True))
    observed = metrics()
    observed.analysis(Analysis(640, 480, "jpeg", 1, faces, "balanced", Timings(1, 2, 3, 4)), queue_ms=0)
    observed.analysis(Analysis(640, 480, "jpeg", 1, (), "balanced", Timings(1, 2, 3, 4)), queue_ms=0)
    assert value(observed, "fer_uncertain_faces_total", model="balanced") == 1
    assert value(observed, "fer_emotion_entropy_ratio_count") == 2
    assert value(observed, "fer_emotion_entropy_ratio_sum") == pytest.approx(1)
    assert value(observed, "fer_face_size_pixels_sum") == 230
    assert value(observed, "fer_face_size_pixels_bucket", le="40.0") == 1
    assert value(observed, "fer_faces_per_image_bucket", le="0.0") == 1


def test_each_stage_is_told_in_seconds() -> None:
    observed = metrics()
    observed.analysis(Analysis(640, 480, "jpeg", 1, (), "balanced", Timings(1, 2, 3, 4)), queue_ms=5)
    sums = [value(observed, "fer_stage_duration_seconds_sum", stage=stage) for stage in STAGES]
    assert sums == [0.005, 0.001, 0.002, 0.003, 0.004]


def test_what_runs_is_told_and_what_is_counted_begins_at_0() -> None:
    described = metrics()
    described.describe("1.2", [("balanced", "3", "sha256:ab")], capacity=7)
    assert value(described, "fer_build_info", version="1.2", python=platform.python_version()) == 1
    assert value(described, "fer_model_info", name="balanced", version="3", digest="sha256:ab") == 1
    assert value(described, "fer_uncertain_faces_total", model="balanced") == 0
    assert value(described, "fer_stream_frames_total", outcome="dropped") == 0


@pytest.mark.parametrize(
    ("probabilities", "ratio"),
    [((1.0, 0.0), 0), ((0.5, 0.5), 1), ((0.25,) * 4, 1), ((0.5, 0.5, 0.0, 0.0), math.log(2) / math.log(4))],
)
def test_entropy_is_none_for_certainty_and_one_for_ignorance(
    probabilities: tuple[float, ...], ratio: float
) -> None:
    assert entropy_ratio(probabilities) == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("file", "text"), [("cpu.stat", V2), ("cpu/cpu.stat", V1), ("cpu,cpuacct/cpu.stat", V1)]
)
def test_throttling_is_read_from_either_cgroup_version(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    registry = CollectorRegistry()
    registry.register(CpuQuotaCollector(tmp_path))
    assert registry.get_sample_value("fer_cgroup_cpu_periods_total") == 40
    assert registry.get_sample_value("fer_cgroup_cpu_throttled_periods_total") == 7
    assert registry.get_sample_value("fer_cgroup_cpu_throttled_seconds_total") == 2.5


@pytest.mark.parametrize("text", [None, "", NO_QUOTA])
def test_where_no_quota_is_counted_nothing_is_said(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "cpu.stat").write_text(text)
    registry = CollectorRegistry()
    registry.register(CpuQuotaCollector(tmp_path))
    assert generate_latest(registry) == b""


V1_MEMORY = ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat")
V2_MEMORY = ("memory.max", "memory.current", "memory.stat")


def told_of_memory(folder: Path, files: tuple[str, str, str], limit: str) -> dict[str, float]:
    (folder / "memory").mkdir()
    stat = "inactive_file 20" if files == V2_MEMORY else "inactive_file 10\ntotal_inactive_file 20"
    for name, text in zip(files, (limit, "700", stat), strict=True):
        (folder / name).write_text(f"{text}\n")
    return {metric.name: metric.samples[0].value for metric in MemoryLimitCollector(folder).collect()}


@pytest.mark.parametrize("files", [V1_MEMORY, V2_MEMORY])
def test_memory_is_that_of_all_processes_of_the_container(
    tmp_path: Path, files: tuple[str, str, str]
) -> None:
    assert told_of_memory(tmp_path, files, "1000") == {
        "fer_cgroup_memory_working_set_bytes": 680,
        "fer_cgroup_memory_limit_bytes": 1000,
    }


@pytest.mark.parametrize(
    ("files", "limit"), [(V1_MEMORY, "9223372036854771712"), (V2_MEMORY, "max"), (("a", "b", "c"), "1000")]
)
def test_where_no_memory_limit_holds_nothing_is_said(
    tmp_path: Path, files: tuple[str, str, str], limit: str
) -> None:
    assert told_of_memory(tmp_path, files, limit) == {}


def test_the_process_tells_of_itself_what_the_library_would(tmp_path: Path) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    ours.register(ProcessCollector())
    with (tmp_path / "open").open("wb"):  # after the collector was made
        prometheus_client.ProcessCollector(registry=theirs)
        told = {metric.name: metric for metric in ours.collect()}
        expected = {metric.name: metric for metric in theirs.collect()}
    assert list(told) == list(expected)
    for name, metric in told.items():
        (sample,), (wanted,) = metric.samples, expected[name].samples
        # The library's count holds the folder that it counts in.
        assert sample.value == pytest.approx(wanted.value, rel=0.05, abs=1)
        assert sample.name == wanted.name
        assert (metric.type, metric.documentation) == (expected[name].type, expected[name].documentation)


def test_a_process_out_of_descriptors_still_tells_what_it_can() -> None:
    registry = CollectorRegistry()
    registry.register(ProcessCollector())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        resident, cpu = (
            registry.get_sample_value(f"process_{name}")
            for name in ("resident_memory_bytes", "cpu_seconds_total")
        )
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resident is not None
    assert math.isnan(resident)
    assert cpu


def test_a_server_tells_that_it_is_ready_its_room_and_every_error_code(serve: Serve) -> None:
    with serve(workers=2, queue_size=5) as client:
        lines = set(client.get("/metrics").text.splitlines())
    assert {"fer_ready 1.0", "fer_inflight_requests_limit 7.0"} <= lines
    assert {
        'fer_rejected_total{code="internal_error"} 0.0',
        'fer_rejected_total{code="overloaded"} 0.0',
    } <= lines
