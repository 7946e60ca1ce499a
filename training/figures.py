"""The report's drawings: each takes numbers and returns a matplotlib figure."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from numpy.typing import NDArray

from service.vision.types import EMOTIONS, UInt8Array
from training.shufflenet import Architecture

BLUE, ORANGE, GREEN = "#2f6fa7", "#d9822b", "#4c9a5b"
Counts = NDArray[np.integer]


def class_distribution(before: Counts, after: Counts) -> Figure:
    """Images of each emotion (7,) before and after balancing (figure 4)."""
    figure, axes = _figure("Training images of each emotion")
    _grouped(axes, {"as published": before, "balanced by augmentation": after})
    return figure


def predicted_labels(labels: Counts, predicted: Counts) -> Figure:
    """How often each emotion is the label and the answer (figure 6)."""
    figure, axes = _figure("Labels and answers on the public test split")
    _grouped(axes, {"label": labels, "answer": predicted})
    return figure


def accuracy_curves(runs: Mapping[str, Sequence[Mapping[str, str]]]) -> Figure:
    """Accuracy by epoch of each run, from its log (figure 5)."""
    figure, axes = _figure("Accuracy of held-out images; dotted, of augmented training images", (10, 4))
    for index, (name, rows) in enumerate(runs.items()):
        _curve(axes, rows, "held_out_accuracy", f"C{index}-", name)
        _curve(axes, rows, "training_accuracy", f"C{index}:")
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy, %")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def confusion(counts: Counts) -> Figure:
    """(7, 7) counts as shares of each true emotion (figure 7)."""
    figure, axes = _figure("Share of each emotion's images, %", (6.4, 5.6))
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 55 else "black"
        axes.text(column, row, f"{share:.1f}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(7), EMOTIONS, rotation=30)
    axes.set_yticks(range(7), EMOTIONS)
    axes.set_xlabel("answer")
    axes.set_ylabel("label")
    axes.spines[:].set_visible(False)
    return figure


def samples(images: UInt8Array, probabilities: NDArray[np.floating], labels: Counts) -> Figure:
    """Faces (N, 48, 48) beside the answer's distribution (figures 3 and 8); for the reader's eyes only."""
    figure = Figure(figsize=(7, 1.6 * len(images)), layout="constrained")
    grid = figure.subplots(len(images), 2, squeeze=False, width_ratios=(1, 2.5))
    for (left, right), image, row, label in zip(grid, images, probabilities, labels.tolist(), strict=True):
        left.imshow(image, cmap="gray", vmin=0, vmax=255)
        left.set_axis_off()
        left.set_title(f"label: {EMOTIONS[label]}", fontsize=8)
        colours = [GREEN if index == label else BLUE for index in range(7)]
        right.barh(EMOTIONS, row, color=colours)
        right.set_xlim(0, 1)
        right.invert_yaxis()
        right.tick_params(labelsize=7)
    return figure


def boxes(scene: UInt8Array, squares: Mapping[str, tuple[float, float, float, float]]) -> Figure:
    """A scene with each detector's box (figure 9); shows a face, so for the reader's eyes only."""
    figure, axes = _figure("", (4, 4))
    axes.imshow(scene)
    axes.set_axis_off()
    for colour, (name, (x1, y1, x2, y2)) in zip((GREEN, ORANGE), squares.items(), strict=False):
        axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=colour, label=name)
    axes.legend(fontsize=7)
    return figure


def detectors(names: Sequence[str], found: Sequence[float], accuracy: Sequence[float]) -> Figure:
    """Shares found and named right by detector (figure 10)."""
    figure, axes = _figure("All test images in scenes, %")
    values = {"found": 100 * np.asarray(found), "named right": 100 * np.asarray(accuracy)}
    _grouped(axes, values, names, "{:.1f}")
    return figure


def robustness(study: Mapping[str, Any]) -> Figure:
    """Found and named right by face size, blur, rotation and margin."""
    figure = Figure(figsize=(8, 5.4), layout="constrained")
    titles = {
        "side": "face size, pixels",
        "blur": "blur, pixels of a 48-pixel face",
        "rotation": "rotation, degrees",
        "margin": "margin added to the crop, share of its side",
    }
    for axes, (name, title) in zip(figure.subplots(2, 2, sharey=True).flat, titles.items(), strict=True):
        points = sorted((p for p in study["curves"] if p["curve"] == name), key=lambda point: point[name])
        at = [point[name] for point in points]
        found, right = ([100 * point[share] for point in points] for share in ("found", "accuracy"))
        axes.plot(at, found, "o-", color=BLUE, label="found", clip_on=False)
        axes.plot(at, right, "o-", color=ORANGE, label="named right", clip_on=False)
        axes.axhline(100 * study["curve_original_accuracy"], color="gray", ls=":", label="as published")
        axes.set_xlabel(title)
        axes.set_ylim(0, 100)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


def network(architecture: Architecture) -> Figure:
    """The layers of a variant, input to output (figure 11)."""
    side = 48 // architecture.stem_stride
    steps = [("input", "1 x 48 x 48"), ("3x3 conv", f"{architecture.stem} x {side} x {side}")]
    for outputs, repeats in zip(architecture.stages, architecture.repeats, strict=True):
        side = (side + 1) // 2
        steps.append((f"{repeats} units", f"{outputs} x {side} x {side}"))
    steps += [("1x1 conv", f"{architecture.head} x {side} x {side}"), ("mean", f"{architecture.head}")]
    steps.append(("linear, softmax", "7"))
    figure, axes = _figure("", (1.35 * len(steps), 1.6))
    for index, (name, shape) in enumerate(steps):
        axes.add_patch(FancyBboxPatch((index * 1.5, 0), 1.1, 1, "round,pad=0.05", fc="#e8f0f7", ec=BLUE))
        axes.text(index * 1.5 + 0.55, 0.62, name, ha="center", va="center", fontsize=8)
        axes.text(index * 1.5 + 0.55, 0.3, shape, ha="center", va="center", fontsize=7, color="dimgray")
        if index:
            axes.annotate(
                "", (index * 1.5 - 0.06, 0.5), (index * 1.5 - 0.34, 0.5), arrowprops={"arrowstyle": "->"}
            )
    axes.set_xlim(-0.2, 1.5 * len(steps))
    axes.set_ylim(-0.2, 1.2)
    axes.set_axis_off()
    return figure


def _figure(title: str, size: tuple[float, float] = (7.0, 3.6)) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _grouped(
    axes: Axes, groups: Mapping[str, NDArray[Any]], names: Sequence[str] = EMOTIONS, label: str = "{:.0f}"
) -> None:
    width = 0.8 / len(groups)
    for index, (name, values) in enumerate(groups.items()):
        places = np.arange(len(names)) + (index - (len(groups) - 1) / 2) * width
        bars = axes.bar(places, values, width, label=name, color=(BLUE, ORANGE)[index])
        axes.bar_label(bars, fmt=label, fontsize=7)
    axes.set_xticks(range(len(names)), names)
    axes.margins(y=0.25)
    axes.legend(frameon=False, fontsize=8, loc="upper right", ncols=2)


def _curve(
    axes: Axes, rows: Sequence[Mapping[str, str]], column: str, style: str, label: str | None = None
) -> None:
    points = [(int(row["epoch"]), 100 * float(row[column])) for row in rows if row[column]]
    if points:
        axes.plot(*zip(*points, strict=True), style, label=label)
