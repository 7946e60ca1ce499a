import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from training import manifest
from training.calibrate import calibrate
from training.evaluate import STORE, probabilities
from training.label_sets import shares
from training.manifest import ExportError
from training.recalibrate import accepted, recalibrate, set_temperature, temperature_of

from .helpers import faces

GRAPHS = {name: STORE / entry["file"] for name, entry in manifest.models(STORE).items()}


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_of_the_store_has_a_temperature(name: str, tmp_path: Path) -> None:
    images = faces(7).images
    before = probabilities(GRAPHS[name], images)
    model = onnx.load(str(GRAPHS[name]))
    temperature = float(numpy_helper.to_array(temperature_of(model.graph)))
    set_temperature(model, 2 * temperature)
    onnx.save(model, str(tmp_path / "graph.onnx"))
    root = np.sqrt(before)
    np.testing.assert_allclose(
        probabilities(tmp_path / "graph.onnx", images), root / root.sum(1, keepdims=True), atol=1e-5
    )


def test_a_graph_is_calibrated_whatever_its_temperature_was(tmp_path: Path) -> None:
    some = faces()
    model = onnx.load(str(GRAPHS["fast"]))
    set_temperature(model, 7.0)
    onnx.save(model, str(tmp_path / "cold.onnx"))
    found = recalibrate(tmp_path / "cold.onnx", tmp_path / "graph.onnx", some, "fer2013")
    assert found == recalibrate(GRAPHS["fast"], tmp_path / "again.onnx", some, "fer2013")
    # What is calibrated needs no temperature of its own any more.
    answers = torch.from_numpy(np.log(probabilities(tmp_path / "graph.onnx", some.images)))
    assert calibrate(answers, torch.from_numpy(shares(some, "fer2013"))).temperature == pytest.approx(
        1, abs=1e-3
    )


def test_a_graph_whose_logits_cannot_be_read_back_is_refused(tmp_path: Path) -> None:
    model = onnx.load(str(GRAPHS["fast"]))
    classifier = next(node for node in model.graph.node if node.op_type == "Gemm")
    for tensor in model.graph.initializer:
        if tensor.name in classifier.input:
            tensor.CopyFrom(numpy_helper.from_array(1000 * numpy_helper.to_array(tensor), tensor.name))
    onnx.save(model, str(tmp_path / "sure.onnx"))
    with pytest.raises(ExportError, match="so sure that its logits cannot be told"):
        recalibrate(tmp_path / "sure.onnx", tmp_path / "graph.onnx", faces(), "fer2013")


def test_a_graph_without_a_temperature_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "emotion").mkdir()
    ends = helper.make_node("Softmax", ["crops"], ["probabilities"])
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 7])
        for name in ("crops", "probabilities")
    ]
    graph = helper.make_graph([ends], "none", values[:1], values[1:])
    onnx.save(helper.make_model(graph), str(tmp_path / "emotion" / "none.onnx"))
    before = (tmp_path / "emotion" / "none.onnx").read_bytes()
    manifest.update(tmp_path, "emotion", {"none": {"file": "emotion/none.onnx"}})
    with pytest.raises(ExportError, match="does not end in logits, a temperature and a softmax"):
        accepted(tmp_path, "none", faces(), faces())
    assert (tmp_path / "emotion" / "none.onnx").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"emotion", "manifest.json"}


def test_a_graph_stays_as_it_is_where_the_manifest_cannot_be_written(tmp_path: Path) -> None:
    shutil.copytree(STORE / "emotion", tmp_path / "emotion")
    entry = manifest.model(STORE, "fast")
    manifest.update(tmp_path, "emotion", {"fast": entry})
    (tmp_path / "manifest.json.tmp").mkdir()
    with pytest.raises(OSError, match="directory"):
        accepted(tmp_path, "fast", faces(), faces())
    assert (tmp_path / entry["file"]).read_bytes() == (STORE / entry["file"]).read_bytes()


@pytest.mark.parametrize("file", ["fast.onnx", "of/mine/fast.onnx"])
def test_a_graph_may_lie_anywhere_in_its_store(tmp_path: Path, file: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(GRAPHS["fast"], tmp_path / file)
    manifest.update(tmp_path, "emotion", {"fast": manifest.model(STORE, "fast") | {"file": file}})
    found = accepted(tmp_path, "fast", faces(), faces())
    assert sha256((tmp_path / file).read_bytes()).hexdigest() == found["sha256"]


def test_the_entry_tells_the_new_graph_and_keeps_the_rest(tmp_path: Path) -> None:
    shutil.copytree(STORE / "emotion", tmp_path / "emotion")
    before = manifest.model(STORE, "fast")
    manifest.update(tmp_path, "emotion", {"fast": before})
    found = accepted(tmp_path, "fast", faces(), faces(), version="99")
    assert found["sha256"] != before["sha256"]
    assert manifest.model(tmp_path, "fast") == found
    assert found["version"] == "99"
    assert {name for name in found if found[name] == before[name]} >= {"file", "bytes", "labels", "label_set"}
    changed = {name for name, value in found["provenance"].items() if value != before["provenance"][name]}
    assert changed == {"temperature"}
