"""The reaction timeline as a picture. Needs the `[media]` extra."""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator, PercentFormatter

from service.media.audience import FloatArray, Moment, Window
from service.media.durations import clock
from service.vision.draw import EMOTION_COLORS
from service.vision.types import EMOTIONS, UInt8Array

_WIDTH_IN, _DPI = 11.0, 120
_HEIGHTS = (2.4, *[0.75] * len(EMOTIONS), 0.9)
_THUMBNAILS_IN = 1.3
_MOST_TICKS = 10
_TICKS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400)
# More than these would be wider than the picture.
_TOLD_A_LINE = 3
_GRAY, _INK = "#888888", "#222222"


def draw_timeline(
    path: Path,
    title: str,
    windows: Sequence[Window],
    moments: Sequence[Moment],
    thumbnails: Mapping[float, UInt8Array],
) -> None:
    """Write the picture, in the format of the path's suffix.

    From top to bottom: all shares stacked, each share with its band, the number of faces; over all of them
    the moments of greatest change. thumbnails: by a moment's time; none are drawn where it is empty.
    """
    heights = (_THUMBNAILS_IN, *_HEIGHTS) if thumbnails else _HEIGHTS
    figure = Figure(figsize=(_WIDTH_IN, sum(heights) + 1.2), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    # The name of a film may hold two dollar signs, and nothing between them is a formula.
    figure.suptitle(title, fontsize=12, color=_INK, parse_math=False)
    axes: list[Axes] = list(
        figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=True)
    )
    if thumbnails:
        _thumbnails(axes[0], moments, thumbnails)
    overview, *rows, faces = axes[bool(thumbnails) :]
    for row in (overview, *rows):
        _shade_gaps(row, windows)
    _overview(overview, windows)
    for emotion, row in enumerate(rows):
        _share_row(row, windows, emotion)
    _faces_row(faces, windows)
    _mark(axes[bool(thumbnails) :], moments)
    _time_axis(faces, windows)
    with warnings.catch_warnings():
        # Of letters of the title that the font lacks, and that are drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(path)


def _overview(axes: Axes, windows: Sequence[Window]) -> None:
    edges, shares, _, _ = _share_steps(windows)
    axes.stackplot(edges, shares.T, colors=[_color(name) for name in EMOTIONS], linewidth=0)
    axes.set(ylim=(0, 1), ylabel="share of\nvisible faces")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for name in EMOTIONS:
        axes.fill_between([], [], color=_color(name), label=name)
    axes.legend(
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        fontsize=9,
        reverse=True,
        handlelength=1.2,
    )
    _plain(axes)


def _share_row(axes: Axes, windows: Sequence[Window], emotion: int) -> None:
    name = EMOTIONS[emotion]
    edges, share, low, high = _share_steps(windows)
    axes.fill_between(edges, low[:, emotion], high[:, emotion], color=_color(name), alpha=0.3, linewidth=0)
    axes.plot(edges, share[:, emotion], color=_dark(name), linewidth=1.6)
    axes.set(ylim=(0, 1), yticks=[0, 1])
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.tick_params(axis="y", labelsize=7)
    _name(axes, name)
    _plain(axes)


def _faces_row(axes: Axes, windows: Sequence[Window]) -> None:
    edges, values = _steps([(window, np.array(window.faces_mean)) for window in windows])
    axes.fill_between(edges, values, color=_GRAY, alpha=0.5, linewidth=0)
    axes.set_ylim(0, max([1.0, *(window.faces_mean for window in windows)]) * 1.15)
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.tick_params(axis="y", labelsize=7)
    _name(axes, "faces")
    _plain(axes)


def _shade_gaps(axes: Axes, windows: Sequence[Window]) -> None:
    """Where nobody was visible there is no share, which is not the same as a share of zero."""
    gaps = [(window.start_s, window.end_s - window.start_s) for window in windows if window.shares is None]
    axes.broken_barh(gaps, (0, 1), facecolor="#f0f0f0", linewidth=0, zorder=0)


def _mark(rows: Sequence[Axes], moments: Sequence[Moment]) -> None:
    for number, moment in enumerate(moments, start=1):
        for axes in rows:
            axes.axvline(moment.time_s, color=_INK, linewidth=0.9, linestyle=(0, (4, 3)))
        rows[0].annotate(
            str(number), (moment.time_s, 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
            textcoords="offset points", ha="center", va="bottom", fontsize=9, fontweight="bold", color=_INK,
        )  # fmt: skip
    if moments:
        rows[0].text(
            0, 1.13, _told(moments), transform=rows[0].transAxes, fontsize=8, color=_INK, va="bottom"
        )


def _told(moments: Sequence[Moment]) -> str:
    told = [
        f"{number}: {clock(one.time_s)} {one.up} up, {one.down} down"
        for number, one in enumerate(moments, start=1)
    ]
    lines = [told[start : start + _TOLD_A_LINE] for start in range(0, len(told), _TOLD_A_LINE)]
    return "greatest change:  " + "\n".join("   ".join(line) for line in lines)


def _thumbnails(axes: Axes, moments: Sequence[Moment], thumbnails: Mapping[float, UInt8Array]) -> None:
    axes.set_axis_off()
    for number, moment in enumerate(moments, start=1):
        if moment.time_s in thumbnails:
            picture = thumbnails[moment.time_s]
            image = OffsetImage(picture, zoom=0.9 * 72 / picture.shape[0])
            place = ((number - 0.5) / len(moments), 0.5)
            axes.add_artist(AnnotationBbox(image, place, xycoords="axes fraction", frameon=False))
            label = f"{number}: {clock(moment.time_s)}"
            axes.text(place[0], -0.05, label, transform=axes.transAxes, ha="center", fontsize=8)


def _time_axis(axes: Axes, windows: Sequence[Window]) -> None:
    length_s = windows[-1].end_s - windows[0].start_s if windows else 1.0
    if windows:
        axes.set_xlim(windows[0].start_s, windows[-1].end_s)
    rounded = [step for step in _TICKS_S if length_s <= _MOST_TICKS * step]
    axes.xaxis.set_major_locator(MultipleLocator(rounded[0]) if rounded else MaxNLocator(_MOST_TICKS))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: clock(value) if length_s > 60 else f"{value:g} s")
    )
    gray = "; gray: no face visible" if any(window.shares is None for window in windows) else ""
    axes.set_xlabel(f"time; bands: 95 % Wilson intervals over the different faces of each window{gray}")


def _share_steps(windows: Sequence[Window]) -> tuple[list[float], FloatArray, FloatArray, FloatArray]:
    """Edges, shares, low and high limits of the windows in which faces were visible, as `_steps` has them."""
    seen = [(window, window.shares) for window in windows if window.shares]
    edges, values = _steps([(window, np.array([of.share, of.low, of.high])) for window, of in seen])
    share, low, high = np.reshape(values, (-1, 3, len(EMOTIONS))).swapaxes(0, 1)
    return edges, share, low, high


def _steps(windows: Sequence[tuple[Window, FloatArray]]) -> tuple[list[float], FloatArray]:
    """Edges and values of steps: each window's at its start and again at its end.

    Where a window does not begin as the one before it ends, nan is between them: one line or area draws them
    all, where one for each run of windows would take an hour.
    """
    edges: list[float] = []
    values: list[FloatArray] = []
    for window, value in windows:
        if edges and not math.isclose(edges[-1], window.start_s):
            edges.append(edges[-1])
            values.append(np.full_like(value, np.nan))
        edges += [window.start_s, window.end_s]
        values += [value, value]
    return edges, np.array(values)


def _color(emotion: str) -> tuple[float, float, float]:
    red, green, blue = EMOTION_COLORS[emotion]
    return red / 255, green / 255, blue / 255


def _dark(emotion: str) -> tuple[float, float, float]:
    """The same hue, dark enough for a line on white."""
    red, green, blue = _color(emotion)
    return 0.7 * red, 0.7 * green, 0.7 * blue


def _name(axes: Axes, name: str) -> None:
    """Beside the row, in line with the other names."""
    axes.text(-0.05, 0.5, name, transform=axes.transAxes, ha="right", va="center", fontsize=10)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GRAY)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
