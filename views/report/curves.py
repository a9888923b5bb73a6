"""Curves over the course of runs: units of their axes, means over runs, smoothing, looks of a run.

Steps count all games of a run together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from views.report.charts import Chart, Curve
from views.report.groups import RunGroup

# What a curve is over: steps of all games together, or seconds since the run began.
Over: TypeAlias = Literal["steps", "time"]

Points: TypeAlias = Sequence[tuple[float, float]]

# Most points of a curve: more than a small picture can show.
_MAX_POINTS = 120
# A running mean is over this part of a curve's points.
_SMOOTH_PARTS = 25


@dataclass(frozen=True, slots=True)
class Unit:
    """Unit of a horizontal axis."""

    name: str
    # Steps or seconds that make one unit.
    size: float


@dataclass(frozen=True, slots=True)
class Units:
    """Units of all horizontal axes of a report."""

    steps: Unit
    time: Unit


def choose_units(groups: Sequence[RunGroup]) -> Units:
    """The units that keep the numbers on the axes short."""
    rows = [row for group in groups for run in group.runs for row in run.looks]
    steps = max((row.get("steps", 0.0) for row in rows), default=0.0)
    seconds = max((row.get("seconds", 0.0) for row in rows), default=0.0)
    return Units(
        Unit("million steps", 1e6) if steps >= 2e5 else Unit("thousand steps", 1e3),
        Unit("hours", 3600.0) if seconds >= 7200 else Unit("minutes", 60.0),
    )


def over_runs(label: str, curves: Sequence[Points], index: int) -> Curve:
    """The mean of several runs' curves with a band from lowest to highest; one run's as it is."""
    runs = [sorted(points) for points in curves if points]
    if not runs:
        return Curve(label=label, x=(), y=(), group=index)
    if len(runs) == 1:
        x, y = thin_out(runs[0])
        return Curve(label=label, x=x, y=y, group=index)
    # Runs are tested at slightly different steps: compare where all of them have been.
    start = max(points[0][0] for points in runs)
    end = min(points[-1][0] for points in runs)
    number = 1 if end <= start else min(_MAX_POINTS, max(len(points) for points in runs))
    grid = np.linspace(min(start, end), end, number)
    values = np.stack(
        [np.interp(grid, [x for x, _ in points], [y for _, y in points]) for points in runs]
    )
    return Curve(
        label=f"{label}, mean of {len(runs)} runs",
        x=tuple(grid.tolist()),
        y=tuple(values.mean(0).tolist()),
        low=tuple(values.min(0).tolist()),
        high=tuple(values.max(0).tolist()),
        group=index,
    )


def look_chart(
    groups: Sequence[RunGroup], key: str, unit: Unit, *, title: str, y_label: str
) -> Chart:
    """A figure of the run's looks over time, a line for each run."""
    curves = []
    for index, group in enumerate(groups):
        for number, run in enumerate(group.runs):
            points = [(x / unit.size, y) for x, y in run.series("seconds", key)]
            if points:
                x, y = thin_out(points)
                # Colours tell groups apart; the runs of a single group have one each.
                colour, style = (index, number) if len(groups) > 1 else (number, number // 6)
                curves.append(Curve(label=run.name, x=x, y=y, group=colour, style=style))
    means = [f"{curve.label} {sum(curve.y) / len(curve.y):.4g}" for curve in curves[:8]]
    return Chart(
        name=key,
        title=title,
        alt=f"{title} over {unit.name}; mean: {', '.join(means) or 'not measured'}.",
        x_label=unit.name,
        y_label=y_label,
        curves=tuple(curves),
        is_from_zero=all(y >= 0 for curve in curves for y in curve.y),
    )


def weights_chart(groups: Sequence[RunGroup], unit: Unit) -> Chart:
    """Lambda of every teacher of every game, in the first run of each group."""
    curves = []
    for index, group in enumerate(groups):
        run = group.runs[0]
        keys = (key for key in run.last if "/distillation_weight" in key)
        for style, key in enumerate(sorted(keys)):
            _, game, name = key.split("/")
            points = [(x / unit.size, y) for x, y in run.series("seconds", key)]
            if any(y > 0 for _, y in points):
                x, y = thin_out(points)
                teacher = name.removeprefix("distillation_weight").replace("_", ", teacher ")
                label = f"{group.label}: {game}{teacher}" if len(groups) > 1 else game + teacher
                curves.append(Curve(label=label, x=x, y=y, group=index, style=style))
    return Chart(
        name="distillation_weight",
        title="Weight of each teacher",
        alt=f"Weight of each teacher beside rewards, over {unit.name}.",
        x_label=unit.name,
        y_label="lambda",
        curves=tuple(curves),
        is_from_zero=True,
    )


def thin_out(
    points: Points,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means of equal numbers of neighbours, where there are more than a picture shows."""
    size = max(1, math.ceil(len(points) / _MAX_POINTS))
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    xs = tuple(math.fsum(x for x, _ in part) / len(part) for part in parts)
    ys = tuple(math.fsum(y for _, y in part) / len(part) for part in parts)
    return xs, ys


def smooth(points: Points) -> list[tuple[float, float]]:
    """A running mean over a few percent of the points, centred and shorter at both ends."""
    half = len(points) // (2 * _SMOOTH_PARTS)
    sums = np.concatenate([[0.0], np.cumsum([y for _, y in points])])
    smoothed = []
    for i, (x, _) in enumerate(points):
        # As far to one side as to the other, or the ends of a slope would bend.
        reach = min(half, i, len(points) - 1 - i)
        mean = (sums[i + reach + 1] - sums[i - reach]) / (2 * reach + 1)
        smoothed.append((x, float(mean)))
    return smoothed
