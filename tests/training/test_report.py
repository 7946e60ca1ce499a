import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from service.vision.emotion import EmotionClassifier
from service.vision.types import DecodedImage
from training import figures, manifest
from training.config import ConfigError
from training.data import Faces
from training.detectors import CONDITION, as_face, compare, haar, reframed
from training.evaluate import STORE
from training.log import COLUMNS
from training.record_golden import PHOTO, golden_inputs
from training.report import Page, Subject, from_detector_to_answer, training_curves, write_report
from training.scenes import Graph, load_detector, scenes
from training.shufflenet import Architecture

from .helpers import faces

PORTRAIT = golden_inputs(PHOTO)[:4]  # four framings of a face
# Of a study of robustness, the larger value of each curve first.
POINTS = [
    {"curve": curve, curve: value, "found": 0.8 + value / 10, "accuracy": value / 10}
    for curve in ("side", "blur", "rotation", "margin")
    for value in (2, 1)
]


def drawn_text(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()]


def test_reframing_puts_the_median_box_on_its_square() -> None:
    squares = [(10.0, 20.0, 58.0, 68.0), (30.0, 30.0, 78.0, 78.0)]
    # Boxes twice as large, with the square in their lower right quarter.
    boxes = [as_face((x1 - 48, y1 - 48, x2, y2)) for x1, y1, x2, y2 in np.array(squares, int).tolist()]
    found = reframed([*boxes, None], [*squares, squares[0]])
    assert [face and face.region for face in found] == [*map(pytest.approx, squares), None]
    assert reframed([None], squares[:1]) == [None]


def a_python(folder: Path, boxes: list[list[list[int]]]) -> Path:
    """A program that finds these boxes, as OpenCV 4 would."""
    (folder / "found.json").write_text(json.dumps(boxes))
    program = folder / "python"
    program.write_text(f'#!/bin/sh\ncp "{folder / "found.json"}" "$3"\n')
    program.chmod(0o755)
    return program


def smiling(number: int) -> Faces:
    return Faces(PORTRAIT[:number], np.full(number, 3), np.full((number, 10), np.nan, np.float32))


def test_detectors_are_compared_on_the_same_scenes(tmp_path: Path) -> None:
    some = smiling(4)
    squares = [square for _, square in scenes(some.images, CONDITION)]
    # Twice as large, with the square in their upper left quarter; and nothing in the last scene.
    large = [[[round(x1), round(y1), round(x1) + 192, round(y1) + 192]] for x1, y1, *_ in squares[:3]] + [[]]
    classifier = EmotionClassifier(Graph(STORE / "emotion" / "fast.onnx"), 0.5)
    rows = compare(load_detector(STORE), classifier, some, a_python(tmp_path, large))
    assert [row.name for row in rows] == ["MTCNN", "Haar cascade", "Haar cascade, reframed"]
    assert [row.outcome.found for row in rows] == [1, 0, 0]
    assert rows[0].outcome.accuracy == 1
    exact = [[[int(edge) for edge in np.round(square)]] for square in squares[:3]] + [[]]
    moved = [[[x1 + 20, y1, x2 + 20, y2]] for ((x1, y1, x2, y2),) in exact[:3]] + [[]]
    rows = compare(load_detector(STORE), classifier, some, a_python(tmp_path, moved))
    assert [row.outcome.found for row in rows] == [1, 0.75, 0.75]
    assert rows[1].overlap == pytest.approx(76 / 116, abs=0.02)
    assert rows[2].overlap == pytest.approx(1, abs=0.03)
    assert rows[2].outcome.accuracy == 0.75


def subject() -> Subject:
    test = smiling(4)
    test.labels[0] = 0  # which is taken for happy
    train = Faces(test.images, np.array([0, 3, 3, 3]), test.votes)
    return Subject("fast", manifest.model(STORE, "fast"), STORE, train, test)


def test_a_report_shows_the_figures_of_its_graph(tmp_path: Path) -> None:
    write_report(subject(), tmp_path / "runs", tmp_path, images=3)
    page = (tmp_path / "README.md").read_text()
    assert "| accuracy, FER2013 | 71.19% (split not named) | 75.00% (public test) |" in page
    assert "| accuracy, FER+ majority |  | not measured of 0 |" in page
    assert "3 test images pasted into scenes at 96 pixels." in page
    assert "| 66.67% | 66.67% |" in page
    drawn = {"fig04-classes", "fig06-labels", "fig07-confusion", "fig10-detectors", "fig11-network"}
    assert {path.stem for path in tmp_path.glob("*.png")} == drawn
    assert all(f"]({name}.png)" in page for name in drawn)
    samples = {path.stem for path in (tmp_path / "samples").iterdir()}
    assert samples == {"right", "wrong", "fig09-boxes"}


def test_a_study_of_another_graph_is_not_shown(tmp_path: Path) -> None:
    study = {"images": 4, "split": "public test split", "curve_images": 1, "curves": POINTS}
    study |= {"original_accuracy": 0.75, "accuracy": 0.5, "found": 1, "curve_original_accuracy": 1}
    told = []
    for digest in (subject().entry["sha256"], "of another graph"):
        (tmp_path / "robustness.json").write_text(json.dumps(study | {"sha256": digest}))
        page = Page(tmp_path)
        from_detector_to_answer(page, tmp_path / "robustness.json", subject())
        told.append(page.parts)
    assert told[0][1].startswith(
        "On 4 images of the public test split: 75.00% named right as published, 50.00% in"
    )
    assert "](robustness.png)" in told[0][2]
    assert told[1][1].startswith("Not measured for this graph")


def test_a_python_without_opencv_4_is_told_of() -> None:
    image = DecodedImage(np.zeros((48, 48, 3), np.uint8), 48, 48, "png", 1)
    with pytest.raises(ConfigError, match="false finds no faces: it needs NumPy and OpenCV 4"):
        haar([image], Path("false"))


def test_the_confusion_figure_shows_shares_of_each_row() -> None:
    counts = np.eye(7, dtype=int) * 3
    counts[0, 1] = 1
    assert drawn_text(figures.confusion(counts))[:3] == ["75.0", "25.0", "0.0"]


def test_the_robustness_figure_tells_the_found_from_the_named_right() -> None:
    drawn = figures.robustness({"curves": POINTS, "curve_original_accuracy": 0.7})
    lines = {line.get_label(): np.asarray(line.get_ydata()) for line in drawn.axes[0].lines}
    assert lines["found"].tolist() == pytest.approx([90, 100])
    assert lines["named right"].tolist() == pytest.approx([10, 20])
    assert set(lines["as published"]) == {70}


def test_grouped_bars_are_as_high_as_their_numbers() -> None:
    (axes,) = figures.class_distribution(np.arange(7), np.full(7, 9)).axes
    bars = {str(bars.get_label()): [bar.get_height() for bar in bars] for bars in axes.containers}
    assert bars == {"as published": list(range(7)), "balanced by augmentation": [9] * 7}


def test_the_network_figure_follows_the_architecture() -> None:
    text = drawn_text(figures.network(Architecture(stages=(8, 16), repeats=(1, 3), stem=4, head=32)))
    assert text[4:8] == ["1 units", "8 x 12 x 12", "3 units", "16 x 6 x 6"]


def test_curves_leave_out_what_an_old_log_lacks() -> None:
    old = [{"epoch": str(epoch), "held_out_accuracy": "0.5", "training_accuracy": ""} for epoch in (1, 2)]
    (axes,) = figures.accuracy_curves({"run": old}).axes
    assert [line.get_label() for line in axes.lines] == ["run"]


def test_samples_have_two_panels_a_face() -> None:
    some = faces(3)
    drawn = figures.samples(some.images, np.full((3, 7), 1 / 7), some.labels)
    assert len(drawn.axes) == 6


def test_curves_of_runs_that_are_gone_stay_in_the_report(tmp_path: Path) -> None:
    def written(runs: str) -> str:
        page = Page(tmp_path)
        page.text("# A page")
        training_curves(page, tmp_path / runs)
        page.text("## Something else")
        page.write()
        return (tmp_path / "README.md").read_text()

    assert "No runs were at hand." in written("gone")
    (tmp_path / "runs" / "fast").mkdir(parents=True)
    (tmp_path / "runs" / "fast" / "log.csv").write_text(f"{','.join(COLUMNS)}\n1,2.0,0.3,0.2,9.0\n")
    drawn = written("runs")
    assert "](fig05-accuracy.png)" in drawn
    edited = drawn.replace("Accuracy by epoch", "Accuracy by epoch, long ago")
    (tmp_path / "README.md").write_text(edited)
    assert written("gone") == edited
