"""Draws the charts of a report as PNG, by matplotlib.

Every chart comes in two colourings, for light and for dark pages. Series differ in colour and in
line style or hatching, so that they can be told apart in gray.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from views.report.charts import Bar, Chart, Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

matplotlib.set_loglevel("ERROR")  # At INFO it tells of every font that it finds.

# Colours of Okabe and Ito 2008, which stay apart without full colour vision.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_LINE_STYLES = ("-", "--", "-.", ":")
_HATCHES = ("", "//", "..", "xx")
# Of bars of the best test, beside those of the mean.
_PALE = 0.45
_WIDTH_IN = 4.6
_DPI = 150
_PANEL_IN = 3.4
_GRID_DPI = 90


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of everything that is not a series."""

    text: str
    grid: str
    # Of bars with the paper's values.
    paper: str

    @property
    def settings(self) -> dict[str, Any]:
        """What matplotlib draws by."""
        texts = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
        return {
            **dict.fromkeys(texts, self.text),
            **dict.fromkeys(("axes.edgecolor", "grid.color"), self.grid),
            **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
            **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 8),
            "axes.titlesize": 10,
            "axes.axisbelow": True,
            "grid.linewidth": 0.6,
            "legend.frameon": False,
            "figure.constrained_layout.use": True,
        }


LIGHT = Theme(text="#1b1b1b", grid="#d5d5d5", paper="#8a8a8a")
DARK = Theme(text="#e8e8e8", grid="#4a4a4a", paper="#9a9a9a")


def draw(chart: Chart, theme: Theme) -> bytes:
    """The chart as PNG without a background."""
    size = (_WIDTH_IN, _height(chart))
    return _draw([chart], theme, size=size, columns=1, dpi=_DPI)


def draw_grid(charts: Sequence[Chart], theme: Theme, *, columns: int) -> bytes:
    """Charts of the same series as one PNG without a background, row by row, with one legend."""
    size = (_PANEL_IN * columns, 0.75 * _PANEL_IN * -(-len(charts) // columns))
    return _draw(charts, theme, size=size, columns=columns, dpi=_GRID_DPI)


def _draw(
    charts: Sequence[Chart], theme: Theme, *, size: tuple[float, float], columns: int, dpi: int
) -> bytes:
    file = io.BytesIO()
    settings: Any = theme.settings  # matplotlib names every one in its type.
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=size)
        for index, chart in enumerate(charts):
            axes = figure.add_subplot(-(-len(charts) // columns), columns, index + 1)
            if chart.bars:
                _draw_bars(axes, chart.bars, theme)
            else:
                _draw_curves(axes, chart, theme)
            axes.set(title=chart.title, xlabel=chart.x_label, ylabel=chart.y_label)
            axes.grid(axis="x" if chart.bars else "both")
        _draw_legend(figure, axes)
        figure.savefig(file, format="png", dpi=dpi, transparent=True)
    return file.getvalue()


def on_white(png: bytes) -> bytes:
    """A picture for use outside the report."""
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    file = io.BytesIO()
    Image.alpha_composite(white, image).convert("RGB").save(file, format="PNG")
    return file.getvalue()


def _height(chart: Chart) -> float:
    if not chart.bars:
        # Entries of the legend lie below the picture, two in a row.
        entries = sum(1 for _ in chart.curves) + len(chart.levels)
        return 2.9 + 0.17 * ((entries + 1) // 2)
    return 1.3 + 0.16 * len(chart.bars) + 0.1 * len({bar.category for bar in chart.bars})


def _draw_curves(axes: Axes, chart: Chart, theme: Theme) -> None:
    faint = 0
    for curve in chart.curves:
        colour = _COLOURS[curve.group % len(_COLOURS)]
        style = _LINE_STYLES[curve.style % len(_LINE_STYLES)]
        if curve.is_faint:
            # The games of one run share its colour; their styles tell them apart.
            style, faint = _LINE_STYLES[faint % len(_LINE_STYLES)], faint + 1
        _draw_curve(axes, curve, colour, style)
    for level in chart.levels:
        axes.axhline(
            level.y,
            color=theme.text,
            linewidth=1.0,
            linestyle="--" if level.is_dashed else "-",
            label=level.label,
        )
    if all(x >= 0 for curve in chart.curves for x in curve.x):
        axes.set_xlim(left=0)
    if chart.is_log:
        axes.set_yscale("log")
    if chart.is_from_zero:
        axes.set_ylim(bottom=0)


def _draw_curve(axes: Axes, curve: Curve, colour: str, style: str) -> None:
    axes.plot(
        curve.x,
        curve.y,
        color=colour,
        linestyle=style,
        linewidth=0.9 if curve.is_faint else 1.8,
        alpha=0.55 if curve.is_faint else 1.0,
        # A test is a point; a single one would not be seen as a line.
        marker="o" if not curve.is_faint and len(curve.x) <= 12 else None,
        markersize=4,
        label=curve.label,
    )
    if curve.low:
        axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0)


def _draw_bars(axes: Axes, bars: Sequence[Bar], theme: Theme) -> None:
    """From the top, game by game, each with its value beside it."""
    places: dict[str, list[float]] = {}
    named: set[str] = set()
    _set_range(axes, bars)
    for number, bar in enumerate(bars):
        # A gap stands between two games.
        own = places.setdefault(bar.category, [])
        own.append(number + 0.6 * (len(places) - 1))
        _draw_bar(axes, bar, own[-1], theme, is_named=bar.label in named)
        named.add(bar.label)
    axes.set_yticks([sum(own) / len(own) for own in places.values()], list(places))
    axes.invert_yaxis()
    axes.axvline(100, color=theme.text, linewidth=1.0)


def _set_range(axes: Axes, bars: Sequence[Bar]) -> None:
    """Bars far above 100 % must not make the others invisible."""
    largest = max(abs(bar.value) for bar in bars)
    right = min(largest * 1.25, 320.0) if largest > 0 else 1.0
    left = min(0.0, max(-320.0, min(bar.value for bar in bars) * 1.25))
    axes.set_xlim(left, max(right, 125.0))


def _draw_bar(axes: Axes, bar: Bar, position: float, theme: Theme, *, is_named: bool) -> None:
    of_paper = bar.group < 0
    error = None
    if bar.low is not None and bar.high is not None:
        error = [[max(0.0, bar.value - bar.low)], [max(0.0, bar.high - bar.value)]]
    axes.barh(
        position,
        bar.value,
        height=0.85,
        color=theme.paper if of_paper else _COLOURS[bar.group % len(_COLOURS)],
        alpha=_PALE if bar.is_best else 1.0,
        hatch="" if of_paper else _HATCHES[bar.group % len(_HATCHES)],
        edgecolor=theme.grid,
        linewidth=0.4,
        xerr=error,
        error_kw={"ecolor": theme.text, "elinewidth": 1.0, "capsize": 2},
        # A leading underscore keeps a series out of the legend.
        label=f"_{bar.label}" if is_named else bar.label,
    )
    left, right = axes.get_xlim()
    edge = max(bar.value, bar.high or bar.value, 0.0)
    if edge < 100 < edge + 0.1 * (right - left):
        edge = 100.0  # Else the line at 100 % would go through the number.
    axes.annotate(
        f"{bar.value:.0f}%",
        (min(edge, right * 0.9), position),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=7,
    )


def _draw_legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) < 2:
        return
    figure.legend(
        handles,
        [label if len(label) <= 60 else f"{label[:57]}..." for label in labels],
        loc="outside lower center",
        ncols=1 if max(map(len, labels)) > 28 else 2,
    )
