"""A store that is not whole stops the start with a sentence that names the file."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

from service.runtime.model_store import CHECKOUT_STORE, ModelStore, ModelStoreError, load_pipeline
from tests.conftest import Loaded


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CHECKOUT_STORE, tmp_path / "store"))


def edit(store: Path, change: Callable[[Any], None]) -> None:
    manifest = json.loads((store / "manifest.json").read_text())
    change(manifest)
    (store / "manifest.json").write_text(json.dumps(manifest))


def refusal(store: Path) -> str:
    with pytest.raises(ModelStoreError) as refused:
        load_pipeline(store)
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_the_committed_store_is_whole() -> None:
    manifest = ModelStore.open().manifest
    assert manifest.emotion["balanced"].bytes <= 4_600_000
    for entry in (*manifest.detector.values(), *manifest.emotion.values()):
        data = (CHECKOUT_STORE / entry.file).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry.bytes, entry.sha256)
        assert entry.licence
        assert entry.provenance


def test_each_model_is_uncertain_below_what_the_manifest_says(loaded: Loaded) -> None:
    store, pipeline = loaded
    found = {name: classifier.uncertain_below for name, classifier in pipeline.classifiers.items()}
    assert found == {name: entry.uncertain_below for name, entry in store.manifest.emotion.items()}


def test_a_missing_graph_is_named(store: Path) -> None:
    (store / "mtcnn" / "onet.onnx").unlink()
    assert "onet.onnx cannot be read" in refusal(store)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda _: b"", lambda data: data[:-1] + b"?"])
def test_a_changed_graph_is_named_with_both_checksums(store: Path, change: Callable[[bytes], bytes]) -> None:
    path = store / "emotion" / "balanced.onnx"
    data = path.read_bytes()
    path.write_bytes(change(data))
    message = refusal(store)
    assert "balanced.onnx" in message
    assert hashlib.sha256(data).hexdigest() in message
    assert hashlib.sha256(change(data)).hexdigest() in message


def test_a_graph_the_runtime_cannot_load_is_named(store: Path) -> None:
    def replace(manifest: Any) -> None:
        path = store / "emotion" / "balanced.onnx"
        path.write_bytes(b"no graph")
        entry = manifest["emotion"]["balanced"]
        entry["sha256"], entry["bytes"] = hashlib.sha256(b"no graph").hexdigest(), len(b"no graph")

    edit(store, replace)
    message = refusal(store)
    assert "balanced.onnx" in message
    assert "cannot load" in message


def test_a_graph_that_loads_and_does_not_run_is_named(store: Path) -> None:
    def replace(manifest: Any) -> None:
        other = manifest["detector"]["rnet"]  # whose crops have another shape
        copied = {key: other[key] for key in ("file", "sha256", "bytes", "inputs", "outputs")}
        manifest["emotion"]["fast"].update(copied)

    edit(store, replace)
    assert "load, but do not run: 'fast' fails on uint8 crops (3, 1, 48, 48): " in refusal(store)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    assert "manifest.json cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda m: m.pop("emotion"), "emotion: Field required"),
        (lambda m: m["detector"].pop("rnet"), "no detector graph 'rnet'"),
        (lambda m: m["detector"]["rnet"]["outputs"].reverse(), "outputs of 'rnet' are not probability, box"),
        (lambda m: m.update(default="nobody"), "no emotion graph for its default 'nobody'"),
        (lambda m: m["emotion"]["balanced"]["labels"].reverse(), "the labels of 'balanced' are not"),
        (lambda m: m["emotion"]["balanced"].update(sha256="0"), "sha256"),
        (lambda m: m["emotion"]["balanced"]["measured"].update(ece=float("nan")), "measured.ece: Input"),
        (lambda m: m["emotion"]["balanced"]["measured"].update(ece="small"), "measured.ece: Input"),
        (lambda m: m["emotion"]["balanced"].update(uncertain_below=50), "uncertain_below: Input"),
        (lambda m: m["emotion"]["balanced"].update(labelset="ferplus"), "labelset: Extra inputs"),
        (lambda m: m["emotion"]["balanced"].update(bytes=1), "(1 bytes)"),
        (lambda m: m["emotion"]["balanced"].update(file="/etc/passwd"), "a path inside the store"),
        (lambda m: m["emotion"]["balanced"].update(file="../balanced.onnx"), "a path inside the store"),
        (lambda m: m["emotion"]["balanced"].update(file="a\x1b[2Jb"), "a path inside the store"),
        (lambda m: m["emotion"]["balanced"].update(file="emotion"), "no regular file"),
        (lambda m: m["emotion"].update({"a b": m["emotion"]["balanced"]}), "String should match pattern"),
        (lambda m: m["emotion"]["balanced"]["inputs"][0].update(name="other"), "inputs and outputs"),
        (lambda m: m["emotion"]["balanced"]["outputs"][0].update(name="other"), "inputs and outputs"),
    ],
)
def test_a_wrong_manifest_says_where(store: Path, change: Callable[[Any], None], complaint: str) -> None:
    edit(store, change)
    assert complaint in refusal(store)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "Invalid JSON"),
        (b'{"detector": {', "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"[" * 100_000, "Invalid JSON"),
        (b" " * 1_000_001, "larger than 1000000 bytes"),
        (b"null", "not a manifest"),
    ],
)
def test_what_is_no_manifest_is_refused(store: Path, text: bytes, complaint: str) -> None:
    (store / "manifest.json").write_bytes(text)
    assert complaint in refusal(store)


def test_what_has_no_end_is_not_opened(store: Path) -> None:
    (store / "manifest.json").unlink()
    os.mkfifo(store / "manifest.json")  # reading it would wait for ever
    assert "no regular file" in refusal(store)


def test_an_unknown_default_model_names_the_known_ones() -> None:
    with pytest.raises(ModelStoreError, match=r"no model 'nobody' .* balanced"):
        load_pipeline(model="nobody")


def test_a_loaded_pipeline_leaves_opencv_no_threads_of_its_own() -> None:
    cv2.setNumThreads(2)
    load_pipeline()
    assert cv2.getNumThreads() == 1
