from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from service.vision.types import DecodedImage
from training import figures
from training.config import ConfigError
from training.detectors import as_face, haar, reframed
from training.log import COLUMNS
from training.report import Page, training_curves
from training.shufflenet import Architecture

from .helpers import faces


def drawn_text(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()]


def test_reframing_puts_the_median_box_on_its_square() -> None:
    squares = [(10.0, 20.0, 58.0, 68.0), (30.0, 30.0, 78.0, 78.0)]
    # Boxes twice as large, with the square in their lower right quarter.
    boxes = [as_face((x1 - 48, y1 - 48, x2, y2)) for x1, y1, x2, y2 in np.array(squares, int).tolist()]
    found = reframed([*boxes, None], [*squares, squares[0]])
    assert [face and face.region for face in found] == [*map(pytest.approx, squares), None]
    assert reframed([None], squares[:1]) == [None]


def test_a_python_without_opencv_4_is_told_of() -> None:
    image = DecodedImage(np.zeros((48, 48, 3), np.uint8), 48, 48, "png", 1)
    with pytest.raises(ConfigError, match="false finds no faces: it needs NumPy and OpenCV 4"):
        haar([image], Path("false"))


def test_the_confusion_figure_shows_shares_of_each_row() -> None:
    counts = np.eye(7, dtype=int) * 3
    counts[0, 1] = 1
    assert drawn_text(figures.confusion(counts))[:3] == ["75.0", "25.0", "0.0"]


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
