import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from training import manifest
from training.data import Faces
from training.engine import train
from training.evaluate import STORE, probabilities
from training.export import export
from training.manifest import ExportError
from training.quantize import MOST_LOST, SUFFIX, accepted, accuracy, quantize
from training.record_golden import GOLDEN
from training.serving import Serving

from .helpers import config, faces

MODELS = json.loads((STORE / "manifest.json").read_text())["emotion"]
QUANTIZED = tuple(name for name in MODELS if name.endswith(SUFFIX))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph that has learned the bars."""
    folder = tmp_path_factory.mktemp("whole")
    train(config(epochs=30, average_decay=0.9, learning_rate=0.1, batch=14), faces(), folder / "run")
    export({folder / "run": 1.0}, faces(), folder, "tiny.onnx", Serving())
    return folder / "tiny.onnx"


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    """A store of one variant that is said to be always right."""
    (tmp_path / "emotion").mkdir()
    shutil.copy(whole, tmp_path / "emotion" / "fast.onnx")
    entry: dict[str, object] = {
        "file": "emotion/fast.onnx",
        "sha256": "ab",
        "version": "3",
        "licence": "MIT",
        "labels": [],
        "label_set": "fer2013",
        "measured": {"fer2013_public_accuracy": 1.0},
    }
    entry |= {"provenance": {"data": "some"}, "uncertain_below": 0.5}
    (tmp_path / "manifest.json").write_text(json.dumps({"emotion": {"fast": entry}}))
    return tmp_path


def test_the_8_bit_form_answers_nearly_as_the_graph_it_is_of(whole: Path, tmp_path: Path) -> None:
    images = faces().images
    quantize(whole, tmp_path / "small.onnx", images)
    expected = probabilities(whole, images)
    assert np.ptp(expected, axis=0).max() > 0.2, "the graph answers the same to everything"
    np.testing.assert_allclose(probabilities(tmp_path / "small.onnx", images), expected, atol=0.05)


def test_no_processor_overflows_on_its_weights(whole: Path, tmp_path: Path) -> None:
    quantize(whole, tmp_path / "small.onnx", faces().images)
    graph = onnx.load(str(tmp_path / "small.onnx")).graph
    tensors = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer]
    weights = [tensor for tensor in tensors if tensor.ndim == 4]  # of convolutions
    assert weights
    assert {weight.dtype for weight in weights} == {np.dtype(np.int8)}
    # 2 x 255 x 64 is the most that two products of bytes may be in 16 bits.
    assert all(np.abs(weight.astype(int)).max() <= 64 for weight in weights)


def test_a_form_that_loses_too_much_is_not_kept(store: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 48, 48)).astype(np.uint8)
    answers = probabilities(store / "emotion" / "fast.onnx", noise).argmax(1)
    close = Faces(noise, answers, np.full((len(noise), 10), np.nan, np.float32))
    with pytest.raises(ExportError, match="fast in 8 bits loses"):
        accepted(store, "fast", faces(), close)
    assert [path.name for path in (store / "emotion").iterdir()] == ["fast.onnx"]


def test_a_form_that_loses_nothing_gets_an_entry_of_its_own(store: Path) -> None:
    entry = accepted(store, "fast", faces(), faces())
    assert (entry["file"], entry["version"]) == ("emotion/fast-int8.onnx", "3")
    assert entry["provenance"]["quantized_from"] == "sha256:ab"
    assert (store / entry["file"]).stat().st_size == entry["bytes"]
    assert manifest.model(store, "fast-int8") == entry


def test_the_same_graph_gives_the_same_form_each_time(store: Path) -> None:
    first, again = (accepted(store, "fast", faces(), faces()) for _ in range(2))
    assert first == again  # the checksum with the rest


@pytest.mark.parametrize("model", QUANTIZED)
def test_a_committed_8_bit_form_is_that_of_its_variant(model: str) -> None:
    entry, variant = MODELS[model], MODELS[model.removesuffix(SUFFIX)]
    assert entry["provenance"]["quantized_from"] == f"sha256:{variant['sha256']}", (
        "run training.quantize again"
    )
    assert entry["label_set"] == variant["label_set"]
    assert accuracy(entry) >= accuracy(variant) - MOST_LOST
    golden = np.load(GOLDEN / f"{model.removesuffix(SUFFIX)}.npz")
    found = probabilities(STORE / entry["file"], golden["crops"])
    np.testing.assert_allclose(found, golden["probabilities"], atol=0.06)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    portrait = slice(0, 8)
    np.testing.assert_allclose(found[portrait], golden["probabilities"][portrait], atol=0.01)
