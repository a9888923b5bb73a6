"""What the figures of a report are made of: one Chart for one picture and one CSV file.

Nothing is computed here from runs (score_charts.py, curves.py) and nothing is drawn (drawing.py),
so that every number in a figure can be tested.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One line, or single points where there is one value only."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    # Lower edge of the band; empty without one.
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    # Number of the group of runs, which has a colour.
    group: int = 0
    # Number of the line style.
    style: int = 0
    # Whether it is context rather than the result.
    is_faint: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A horizontal line to compare curves with."""

    label: str
    y: float
    is_dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar of one category."""

    category: str
    label: str
    value: float
    low: float | None = None
    high: float | None = None
    # Number of the group of runs; -1 for the paper.
    group: int = 0
    # Whether it shows the best test rather than the mean of the last ones.
    is_best: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One picture."""

    # Name of its files, without their ending.
    name: str
    title: str
    # What a reader who does not see the picture should know.
    alt: str
    x_label: str
    y_label: str = ""
    curves: tuple[Curve, ...] = ()
    levels: tuple[Level, ...] = ()
    bars: tuple[Bar, ...] = ()
    # Whether the vertical axis begins at 0.
    is_from_zero: bool = False
    # Whether the vertical axis is logarithmic.
    is_log: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not self.bars and not any(curve.x for curve in self.curves)

    def as_csv(self) -> str:
        """Every number in the picture, one line for each."""
        text = io.StringIO()
        write = csv.writer(text, lineterminator="\n")
        if self.bars:
            write.writerow(["category", "series", "value", "low", "high"])
            write.writerows([b.category, b.label, b.value, b.low, b.high] for b in self.bars)
            return text.getvalue()
        write.writerow(["series", self.x_label, self.y_label, "low", "high"])
        for curve in self.curves:
            low, high = (edge or ("",) * len(curve.x) for edge in (curve.low, curve.high))
            for row in zip(curve.x, curve.y, low, high, strict=True):
                write.writerow([curve.label, *row])
        write.writerows([level.label, "", level.y, "", ""] for level in self.levels)
        return text.getvalue()
