import argparse
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch

from service.vision.types import EMOTIONS
from training import manifest
from training.calibrate import calibrate
from training.data import VOTE_OF_EMOTION, DataError, Faces, load
from training.duplicates import without
from training.engine import train
from training.evaluate import STORE, probabilities
from training.export import Served, compare, export
from training.export import run as run_export
from training.graph import PARITY, check_parity, fold, write_graph
from training.held_out import divided, split_held_out
from training.label_sets import shares
from training.manifest import ExportError
from training.network import build, load_network, predict
from training.presets import to_network
from training.quantize import SUFFIX
from training.record_golden import GOLDEN, PHOTO, golden_inputs
from training.saved import CHECKPOINT
from training.serving import Serving

from .helpers import config, faces

ENTRIES = json.loads((STORE / "manifest.json").read_text())["emotion"]
# An 8-bit form is made from a graph, not from PyTorch's network; it has tests of its own.
MODELS = tuple(name for name in ENTRIES if not name.endswith(SUFFIX))


@pytest.fixture(scope="module")
def served() -> Served:
    torch.manual_seed(0)
    return Served(fold(build(config()).eval()), temperature=0.7).eval()


def test_an_exported_graph_answers_as_pytorch_does(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    write_graph(served, path)
    assert compare(served, path, faces().images) <= PARITY
    for count in (1, 3):
        assert probabilities(path, faces().images[:count]).shape == (count, 7)
    every = probabilities(path, faces().images)
    np.testing.assert_allclose(every.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(probabilities(path, faces().images, batch=9), every, atol=1e-6)


def test_an_exported_graph_tells_nothing_of_the_machine(served: Served, tmp_path: Path) -> None:
    write_graph(served, tmp_path / "tiny.onnx")
    graph = onnx.load(str(tmp_path / "tiny.onnx")).graph
    assert all(tensor.name.isdigit() for tensor in graph.initializer)
    assert not any(node.doc_string or node.name for node in graph.node)


def test_another_graph_does_not_pass_for_this_one(served: Served, tmp_path: Path) -> None:
    write_graph(Served(served.network, temperature=1.0).eval(), tmp_path / "other.onnx")
    with pytest.raises(ValueError, match=r"other.onnx differs from PyTorch by"):
        compare(served, tmp_path / "other.onnx", faces().images)


def test_a_graph_that_answers_no_number_does_not_pass() -> None:
    nothing = np.full((1, 7), np.nan, np.float32)
    with pytest.raises(ExportError, match=r"nan\.onnx differs from PyTorch by nan"):
        check_parity(Path("nan.onnx"), nothing, nothing)


def test_a_run_becomes_a_calibrated_graph_and_a_manifest_entry(tmp_path: Path) -> None:
    train(config(epochs=1), faces(), tmp_path / "run")
    calibration = export({tmp_path / "run": 1.0}, faces(), tmp_path / "store", "emotion/tiny.onnx", Serving())
    assert calibration.temperature > 0
    entry = manifest.graph_entry(
        tmp_path / "store", "emotion/tiny.onnx", version="1", licence="MIT", provenance={}
    )
    data = (tmp_path / "store" / "emotion" / "tiny.onnx").read_bytes()
    assert (entry["sha256"], entry["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert entry["inputs"] == [{"name": "crops", "dtype": "uint8", "shape": ["faces", 1, 48, 48]}]
    assert entry["outputs"] == [{"name": "probabilities", "dtype": "float32", "shape": ["faces", 7]}]


def test_several_runs_become_one_graph_of_their_weighted_answers(tmp_path: Path) -> None:
    runs = {tmp_path / "one": 3.0, tmp_path / "other": 1.0}
    for seed, run in enumerate(runs):
        torch.manual_seed(seed)
        train(config(epochs=1, learning_rate=0.01 * (seed + 1)), faces(), run)
    calibration = export(runs, faces(), tmp_path / "store", "both.onnx", Serving())
    with torch.no_grad():
        images = to_network(torch.from_numpy(faces().images)[:, None].float() / 255)
        one, other = (load_network(run)(images).log_softmax(1) for run in runs)
    mean = 0.75 * one + 0.25 * other
    expected = (mean / calibration.temperature).softmax(1).numpy()
    np.testing.assert_allclose(
        probabilities(tmp_path / "store" / "both.onnx", faces().images), expected, atol=1e-5
    )


def test_the_votes_head_is_calibrated_by_the_votes(tmp_path: Path) -> None:
    some = faces()
    # Voters call each face the emotion after its label; seven of ten are of one mind.
    votes = np.zeros((len(some), 10), np.float32)
    votes[np.arange(len(some)), np.array(VOTE_OF_EMOTION)[(some.labels + 1) % 7]] = 7
    votes[np.arange(len(some)), np.array(VOTE_OF_EMOTION)[(some.labels + 2) % 7]] = 3
    some = replace(some, votes=votes)
    train(config(epochs=60, average_decay=0.9, votes=1.0, batch=14), some, tmp_path / "run")
    export({tmp_path / "run": 1.0}, some, tmp_path / "store", "votes.onnx", Serving(votes_share=1.0))
    answers = probabilities(tmp_path / "store" / "votes.onnx", some.images)
    assert (answers.argmax(1) == (some.labels + 1) % 7).mean() > 0.9
    assert 0.6 < answers.max(1).mean() < 0.8
    with pytest.raises(ExportError, match="the data has no FER"):
        export({tmp_path / "run": 1.0}, faces(), tmp_path, "none.onnx", Serving(votes_share=1.0))


def test_a_run_with_one_head_does_not_pass_for_the_votes(tmp_path: Path) -> None:
    some = replace(faces(), votes=np.ones((len(faces()), 10), np.float32))
    train(config(epochs=1), some, tmp_path / "run")
    with pytest.raises(ExportError, match="run has no head that learned votes"):
        export({tmp_path / "run": 1.0}, some, tmp_path, "none.onnx", Serving(votes_share=0.2))
    assert not (tmp_path / "none.onnx").exists()


def options(tmp_path: Path, **changes: object) -> argparse.Namespace:
    """A command line of the export, for made-up faces in folders."""
    given = {"variant": "fast", "data": tmp_path / "data", "ferplus": None, "run": [tmp_path / "run"]}
    given |= {"runs": None, "store": tmp_path / "store", "version": None, "votes_share": 0.0}
    return argparse.Namespace(**given | {"adjustment": 0.0, "learned_from": None} | changes)


def write_folders(folder: Path, *splits: str) -> None:
    for split in splits:
        for index, (image, label) in enumerate(zip(faces().images, faces().labels, strict=True)):
            place = folder / split / EMOTIONS[label]
            place.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(place / f"{index}.png"), image)


def test_a_store_changes_only_when_all_is_known(tmp_path: Path) -> None:
    write_folders(tmp_path / "data", "train")
    train(config(epochs=1), load(tmp_path / "data", "train"), tmp_path / "run")
    with pytest.raises(DataError, match="public_test"):
        run_export(options(tmp_path))
    assert not list(tmp_path.glob("store/**/*.onnx"))
    write_folders(tmp_path / "data", "public_test")
    run_export(options(tmp_path, version="3"))
    run_export(options(tmp_path))
    entry = manifest.model(tmp_path / "store", "fast")
    assert (entry["version"], entry["label_set"]) == ("3", "fer2013")
    assert entry["measured"]["fer2013_public_accuracy"] > 0
    assert entry["provenance"]["data"] == "FER2013 training split"
    assert entry["provenance"]["command"] == "python -m training.export --variant fast --run run"
    assert {path.name for path in (tmp_path / "store").iterdir()} == {"emotion", "manifest.json"}


def test_a_graph_tells_what_its_run_learned_from_and_held_out(tmp_path: Path) -> None:
    write_folders(tmp_path / "data", "train", "public_test")
    learned = load(tmp_path / "data", "train")
    train(config(epochs=1, seed=7), learned, tmp_path / "run")
    run_export(options(tmp_path, learned_from="faces of our own"))
    provenance = manifest.model(tmp_path / "store", "fast")["provenance"]
    assert provenance["data"] == "faces of our own"
    expected = split_held_out(learned, config().held_out, 7)
    for part, wanted in zip(divided(tmp_path / "data", provenance=provenance), expected, strict=True):
        assert part.fingerprint() == wanted.fingerprint()
    next((tmp_path / "data" / "train" / "happy").iterdir()).unlink()
    with pytest.raises(DataError, match="learned from other images, labels or votes"):
        divided(tmp_path / "data", provenance=provenance)


def test_runs_that_held_out_different_images_are_not_exported_together(tmp_path: Path) -> None:
    train(config(epochs=1), faces(), tmp_path / "one")
    train(config(epochs=1, seed=7), faces(), tmp_path / "other")
    with pytest.raises(ValueError, match="one, other held out different images"):
        export(
            {tmp_path / "one": 1.0, tmp_path / "other": 1.0},
            faces(),
            tmp_path / "store",
            "both.onnx",
            Serving(),
        )


def test_a_run_is_not_calibrated_on_other_images_than_it_held_out(tmp_path: Path) -> None:
    train(config(epochs=1), faces(), tmp_path / "run")
    relabelled = replace(faces(), labels=np.roll(faces().labels, 1))
    for others in (faces(49), faces().subset(np.arange(56)[::-1]), relabelled):
        with pytest.raises(ExportError, match="run learned from other images, labels or votes"):
            export({tmp_path / "run": 1.0}, others, tmp_path, "none.onnx", Serving())
    assert not (tmp_path / "none.onnx").exists()
    # As a checkpoint is that is older than fingerprints.
    state = torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)
    del state["source"]
    torch.save(state, tmp_path / "run" / CHECKPOINT)
    export({tmp_path / "run": 1.0}, faces(49), tmp_path, "older.onnx", Serving())


@pytest.mark.parametrize("damage", ["{", "{}"])
def test_the_checkpoint_tells_what_a_run_held_out(tmp_path: Path, damage: str) -> None:
    train(config(epochs=1), faces(), tmp_path / "run")
    whole = export({tmp_path / "run": 1.0}, faces(), tmp_path, "whole.onnx", Serving())
    (tmp_path / "run" / "config.json").write_text(damage)
    assert export({tmp_path / "run": 1.0}, faces(), tmp_path, "again.onnx", Serving()) == whole


def test_the_manifest_keeps_what_it_is_not_told_of(tmp_path: Path) -> None:
    manifest.update(tmp_path, "emotion", {"balanced": {"file": "a"}})
    manifest.update(tmp_path, "emotion", {"fast": {"file": "b"}})
    manifest.update(tmp_path, "detector", {"pnet": {"file": "c"}})
    written = json.loads((tmp_path / "manifest.json").read_text())
    assert written == {
        "detector": {"pnet": {"file": "c"}},
        "default": "balanced",
        "emotion": {"balanced": {"file": "a"}, "fast": {"file": "b"}},
    }


def test_golden_inputs_never_change() -> None:
    for path in GOLDEN.glob("*.npz"):
        assert np.array_equal(np.load(path)["crops"], golden_inputs(PHOTO))


@pytest.mark.parametrize("model", MODELS)
def test_the_committed_graph_answers_as_pytorch_did(model: str) -> None:
    entry = ENTRIES[model]
    path = GOLDEN / f"{model}.npz"
    assert path.exists(), f"python -m training.record_golden --variant {model} has not been run"
    golden = np.load(path)
    assert golden["sha256"] == entry["sha256"], "recorded of another graph: run training.record_golden again"
    found = probabilities(STORE / entry["file"], golden["crops"])
    np.testing.assert_allclose(found, golden["probabilities"], atol=PARITY)


def test_nothing_is_calibrated_on_an_image_that_was_learned_too(tmp_path: Path) -> None:
    """Half of the images are there twice, under two labels, so that some of those held out were learned."""
    some = faces()
    twice = Faces(
        np.concatenate([some.images, some.images[:28]]),
        np.concatenate([some.labels, (some.labels[:28] + 1) % 7]),
        np.concatenate([some.votes, some.votes[:28]]),
    )
    train(config(epochs=1), twice, tmp_path / "run")
    learned, seen = split_held_out(twice, config().held_out, config().seed)
    new = without(seen, learned)
    assert 0 < len(new) < len(seen)
    found = export({tmp_path / "run": 1.0}, twice, tmp_path, "graph.onnx", Serving())
    logits = predict(load_network(tmp_path / "run"), new)
    expected = calibrate(logits, torch.from_numpy(shares(new, "fer2013")))
    assert found.temperature == pytest.approx(expected.temperature, rel=1e-3)
