"""Draw the paper's figures again, from runs, the model store and the user's data.

`python -m training.report --data fer2013.csv --runs runs --out docs/report` writes README.md and its figures.
Pictures that show faces go to `samples/` in that folder, which git ignores: the data may not be passed on.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from service.vision.emotion import EmotionClassifier
from training import card, figures, manifest
from training.arguments import parser_of_data, positive, told
from training.data import Faces, load
from training.detectors import CONDITION, Detected, compare
from training.evaluate import STORE, probabilities
from training.log import read_log
from training.metrics import Report, percent, report
from training.presets import class_balanced
from training.recipe import ARCHITECTURES, PRESETS
from training.scenes import Graph, load_detector, scenes

NO_HAAR = "The Haar comparison was left out: no Python with OpenCV 4 was given (`--haar-python`)."
# The paper's own figures; it does not say which of FER2013's two test splits its accuracy is of.
PAPER_ACCURACY, PAPER_MEGABYTES = 0.7119, 4.6


@dataclass
class Page:
    """A Markdown page and the folder its figures go to."""

    folder: Path
    parts: list[str] = field(default_factory=list)

    def text(self, text: str) -> None:
        self.parts.append(text)

    def figure(self, drawn: Figure, name: str, caption: str) -> None:
        """Save a figure and show it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        drawn.savefig(self.folder / f"{name}.png", dpi=110, metadata={"Software": None})
        self.parts.append(f"![{caption}]({name}.png)\n\n*{caption}*")

    def sample(self, drawn: Figure, name: str, caption: str) -> None:
        """Save a figure that shows faces where git does not see it, and only name it."""
        (self.folder / "samples").mkdir(parents=True, exist_ok=True)
        drawn.savefig(self.folder / "samples" / f"{name}.png", dpi=110)
        place = f"`samples/{name}.png`, drawn from your copy of the data and not committed"
        self.parts.append(f"{caption}: {place}.")

    def before(self, title: str) -> str:
        """A part of the page as it was last written, from this line on; nothing where it was not."""
        path = self.folder / "README.md"
        _, found, rest = (path.read_text() if path.exists() else "").partition(f"{title}\n")
        return (found + rest.partition("\n## ")[0]).strip()

    def write(self) -> None:
        (self.folder / "README.md").write_text("\n\n".join(self.parts) + "\n")


@dataclass(frozen=True)
class Subject:
    """The graph that a report is about, and what it answers on the test split."""

    name: str
    entry: dict[str, Any]
    store: Path
    train: Faces
    test: Faces

    @property
    def graph(self) -> Path:
        return self.store / str(self.entry["file"])


def write_report(
    subject: Subject, runs: Path, out: Path, haar_python: Path | None = None, images: int | None = None
) -> None:
    """The whole page."""
    page = Page(out)
    answers = probabilities(subject.graph, subject.test.images)
    found = report(answers, subject.test, subject.entry["uncertain_below"])
    _head(page, subject, found)
    _data(page, subject.train)
    training_curves(page, runs)
    _answers(page, found, answers, subject.test)
    _detection(page, subject, subject.test.first(images), haar_python)
    from_detector_to_answer(page, out / "robustness.json", subject)
    page.text("## The network (figure 11)")
    page.figure(
        figures.network(PRESETS[subject.name].architecture),
        "fig11-network",
        f"Layers of the preset `{subject.name}`: channels x height x width.",
    )
    page.write()


def _head(page: Page, subject: Subject, found: Report) -> None:
    page.text("# The paper's figures, drawn again")
    page.text(
        f"Written by `make report MODEL={subject.name}` from the graph with sha256 "
        f"`{subject.entry['sha256']}`. All answers are one forward pass a face on the {found.images} "
        "images of FER2013's public test split."
    )
    rows = [
        (
            "accuracy, FER2013",
            f"{PAPER_ACCURACY:.2%} (split not named)",
            f"{found.accuracy:.2%} (public test)",
        ),
        ("size", f"{PAPER_MEGABYTES} MB", f"{subject.entry['bytes'] / 1e6:.2f} MB"),
        ("macro F1", "", f"{found.macro_f1:.3f}"),
        ("recall of `disgust`", "", f"{found.recall['disgust']:.1%} of {found.count['disgust']}"),
        ("calibration error", "", f"{found.ece:.2%} (perfect: {found.ece_if_perfect:.2%})"),
        ("accuracy, FER+ majority", "", f"{percent(found.ferplus_accuracy)} of {found.ferplus_images}"),
    ]
    page.text(card.table(("", "paper", f"`{subject.name}`"), rows))


def _data(page: Page, faces: Faces) -> None:
    labels = torch.from_numpy(faces.labels)
    order = class_balanced(labels, torch.Generator().manual_seed(0))
    before, after = (torch.bincount(found, minlength=7).numpy() for found in (labels, labels[order]))
    page.text("## Classes before and after balancing (figure 4)")
    page.figure(
        figures.class_distribution(before, after), "fig04-classes",
        "Training images of each emotion, and as balanced; "
        "the preset `paper` balances the four fifths that it learns from.",
    )  # fmt: skip


def training_curves(page: Page, runs: Path) -> None:
    """Figure 5, of the logs of all runs; where there are none, what the page had before."""
    logs = {path.parent.name: read_log(path.parent) for path in sorted(runs.glob("*/log.csv"))}
    title = "## Accuracy while training (figure 5)"
    if not logs:
        # The runs of a graph may be gone long before its report is drawn again.
        page.text(page.before(title) or f"{title}\n\nNo runs were at hand.")
        return
    page.text(title)
    caption = "Accuracy by epoch; `-taught` is what was learned from others before the last step."
    page.figure(figures.accuracy_curves(logs), "fig05-accuracy", caption)


def _answers(page: Page, found: Report, answers: NDArray[np.float32], test: Faces) -> None:
    predicted = answers.argmax(1)
    counts = [np.bincount(values, minlength=7) for values in (test.labels, predicted)]
    page.text("## Labels and answers (figures 6 and 7)")
    page.figure(
        figures.predicted_labels(*counts), "fig06-labels", "How often each emotion is label and answer."
    )
    page.figure(
        figures.confusion(found.confusion), "fig07-confusion", "Row: label. Column: answer. Rows sum to 100."
    )
    page.text("## Right and wrong answers (figures 3 and 8)")
    for name, chosen in (("right", predicted == test.labels), ("wrong", predicted != test.labels)):
        index = np.random.default_rng(0).permutation(np.flatnonzero(chosen))[:8]
        drawn = figures.samples(test.images[index], answers[index], test.labels[index])
        page.sample(drawn, name, f"Eight faces drawn at random from those named {name}")


def _detection(page: Page, subject: Subject, test: Faces, haar_python: Path | None) -> None:
    classifier = EmotionClassifier(Graph(subject.graph), subject.entry["uncertain_below"])
    rows = compare(load_detector(subject.store), classifier, test, haar_python)
    page.text("## MTCNN against Haar cascades (figures 9 and 10)")
    page.text(
        f"{len(test)} test images pasted into scenes at {CONDITION.side} pixels. "
        "A face that is not found counts as wrong. "
        "*Reframed* moves and scales all Haar boxes alike, so that their median is the pasted square: "
        "what is lost even then is owed to boxes that vary."
    )
    heads = ("detector", "found", "mean overlap with the square", "named right, of all", "of the found")
    page.text(card.table(heads, [_detector_row(row) for row in rows]))
    if haar_python is None:
        page.text(NO_HAAR)
    names = [row.name for row in rows]
    outcomes = [row.outcome for row in rows]
    drawn = figures.detectors(names, [o.found for o in outcomes], [o.accuracy for o in outcomes])
    page.figure(drawn, "fig10-detectors", "Shares of all test images.")
    _boxes(page, rows, test)


def _detector_row(row: Detected) -> tuple[str, ...]:
    found, right = row.outcome.found, row.outcome.accuracy
    of_found = f"{right / found:.2%}" if found else ""
    return row.name, f"{found:.1%}", f"{row.overlap:.2f}", f"{right:.2%}", of_found


def _boxes(page: Page, rows: list[Detected], test: Faces) -> None:
    """The first scene in which every detector found the face."""
    for index, (image, _) in enumerate(scenes(test.images, CONDITION)):
        found = {row.name: face.region for row in rows[:2] if (face := row.faces[index])}
        if len(found) == len(rows[:2]):
            page.sample(
                figures.boxes(image.pixels, found), "fig09-boxes", "A scene with the detectors' boxes"
            )
            return


def from_detector_to_answer(page: Page, path: Path, subject: Subject) -> None:
    """What `training.robustness` has written, if it is of this graph."""
    page.text("## From detector to answer")
    study = json.loads(path.read_text()) if path.exists() else None
    if study is None or study["sha256"] != subject.entry["sha256"]:
        page.text("Not measured for this graph: run `make evaluate-robustness` first.")
        return
    page.text(
        f"On {study['images']} images of the {study['split']}: "
        f"{study['original_accuracy']:.2%} named right as published, "
        f"{study['accuracy']:.2%} in scenes, found by the MTCNN and cropped by the service; "
        f"{study['found']:.2%} were found. "
        f"Each point below is {study['curve_images']} images."
    )
    page.figure(figures.robustness(study), "robustness", "Shares of all images, %.")


def main() -> None:
    """Parse the command line and write the page."""
    parser = parser_of_data(__doc__)
    parser.add_argument("--model", default="balanced")
    parser.add_argument("--store", type=Path, default=STORE)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=STORE.parent / "docs" / "report")
    parser.add_argument("--haar-python", type=Path, help="a Python that has OpenCV 4 (dependency group haar)")
    parser.add_argument("--images", type=positive, help="only so many for the detectors")
    arguments = parser.parse_args()
    if arguments.model not in ARCHITECTURES:
        raise SystemExit(f"report: the paper's figures are drawn of {' or '.join(ARCHITECTURES)}")
    with told("report"):
        entry = manifest.model(arguments.store, arguments.model)
        splits = [load(arguments.data, split, arguments.ferplus) for split in ("train", "public_test")]
        python = arguments.haar_python if arguments.haar_python and arguments.haar_python.exists() else None
        if python is None:
            print(NO_HAAR)
        subject = Subject(arguments.model, entry, arguments.store, *splits)
        write_report(subject, arguments.runs, arguments.out, python, arguments.images)


if __name__ == "__main__":
    main()
