import shutil
from pathlib import Path

import onnx
import pytest

from training import manifest
from training.evaluate import STORE, opened
from training.manifest import StoreError
from training.mtcnn import register


def test_what_is_no_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"is no model store: manifest.json cannot be read"):
        manifest.models(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="is not JSON"):
        manifest.models(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(StoreError, match="has no section 'emotion'"):
        manifest.models(tmp_path)


def test_what_is_no_graph_is_named(tmp_path: Path) -> None:
    graph = tmp_path / "graph.onnx"
    with pytest.raises(FileNotFoundError, match=r"graph\.onnx"):
        opened(graph)
    graph.write_bytes((STORE / "emotion" / "fast.onnx").read_bytes()[:1000])
    with pytest.raises(StoreError, match=r"graph.onnx is no whole ONNX graph"):
        opened(graph)


def test_a_model_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    manifest.update(tmp_path, "emotion", {"fast": {}, "balanced": {"label_set": "ferplus"}})
    # As in a store that is older than the second label set.
    assert manifest.model(tmp_path, "fast") == {"label_set": "fer2013"}
    assert manifest.model(tmp_path, "balanced") == {"label_set": "ferplus"}
    with pytest.raises(StoreError, match=r"no model 'other' in .*: it holds fast, balanced"):
        manifest.model(tmp_path, "other")


def test_the_store_says_of_the_detector_what_is_registered() -> None:
    assert manifest.section(STORE, "detector") == register.entries(STORE)


def copies(folder: Path) -> tuple[Path, Path]:
    """Two of the store, the first with another detector."""
    copy, store = (Path(shutil.copytree(STORE, folder / name)) for name in ("copy", "store"))
    graph = onnx.load(str(copy / "mtcnn" / "rnet.onnx"))
    graph.doc_string = "another"
    onnx.save(graph, str(copy / "mtcnn" / "rnet.onnx"))
    return copy, store


def test_a_detector_made_in_a_copy_of_the_store_replaces_that_of_the_store(tmp_path: Path) -> None:
    copy, store = copies(tmp_path)
    register.register(copy, store)
    assert manifest.section(store, "detector") == register.entries(copy) == register.entries(store)
    assert manifest.section(store, "detector") != manifest.section(STORE, "detector")
    assert manifest.models(store) == manifest.models(STORE)
    assert sorted(path.name for path in (store / "mtcnn").iterdir()) == sorted(
        path.name for path in (STORE / "mtcnn").iterdir()
    )


def test_a_detector_stays_as_it_is_where_the_manifest_cannot_be_written(tmp_path: Path) -> None:
    copy, store = copies(tmp_path)
    (store / "manifest.json.tmp").mkdir()
    with pytest.raises(OSError, match="directory"):
        register.register(copy, store)
    assert manifest.section(store, "detector") == register.entries(store)
