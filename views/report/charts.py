"""What the figures of a report show, as numbers: one Chart for one picture and one CSV file.

Nothing is drawn here (views/report/drawing.py), so that every number in a figure can be tested.
Steps count all games of a run together.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from games.spec import normalized_score
from records.recorded_tests import expert_ratio, summarize_tests
from records.run_record import RecordedTest, RunRecord
from records.run_statistics import estimate, interquartile_mean
from views.report.groups import RunGroup
from views.report.paper import PAPER_TABLE

Over: TypeAlias = Literal["steps", "time"]
"""What a curve is over: steps of all games together, or seconds since the run began."""

_POINTS = 120
"""Points of a curve, at most: more than a small picture can show."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Of a horizontal axis."""

    name: str
    size: float
    """In steps or seconds."""


@dataclass(frozen=True, slots=True)
class Units:
    """Of all horizontal axes of a report."""

    steps: Unit
    time: Unit


def choose_units(groups: Sequence[RunGroup]) -> Units:
    """Such as make no long rows of zeros."""
    rows = [row for group in groups for run in group.runs for row in run.looks]
    steps = max((row.get("steps", 0.0) for row in rows), default=0.0)
    seconds = max((row.get("seconds", 0.0) for row in rows), default=0.0)
    return Units(
        Unit("million steps", 1e6) if steps >= 2e5 else Unit("thousand steps", 1e3),
        Unit("hours", 3600.0) if seconds >= 7200 else Unit("minutes", 60.0),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One line, or single points where there is one value only."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    """Lower edge of the band; empty without one."""
    high: tuple[float, ...] = ()
    group: int = 0
    """Number of the group of runs, which has a colour."""
    style: int = 0
    """Number of the line style."""
    is_faint: bool = False
    """Context, not the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A horizontal line."""

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
    group: int = 0
    """-1 for the paper."""
    is_best: bool = False
    """Of the best test, not of the mean of the last ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One picture."""

    name: str
    """Of its files."""
    title: str
    alt: str
    """What a reader who does not see it should know."""
    x_label: str
    y_label: str = ""
    curves: tuple[Curve, ...] = ()
    levels: tuple[Level, ...] = ()
    bars: tuple[Bar, ...] = ()
    is_from_zero: bool = False
    """Whether the vertical axis begins at 0."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not self.bars and not any(curve.x for curve in self.curves)

    def as_csv(self) -> str:
        """Every number in the picture, a line each."""
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


def percent_of_expert(groups: Sequence[RunGroup]) -> Chart:
    """Figure 6 of the paper: what part of its expert's score the student reaches in each game.

    By the statistics of the paper's table, as in views/report/paper.py: the mean of the last
    tests and the best of all, both divided by the mean on the expert's card. The paper's best test
    is divided by its expert's best.
    """
    bars: list[Bar] = []
    for game in _games(groups):
        own = [bar for index, group in enumerate(groups) for bar in _own_bars(group, game, index)]
        bars += own
        if own and game in PAPER_TABLE:
            row = PAPER_TABLE[game]
            paper = Bar(
                category=game, label="paper (recalled), mean", value=100 * row.mean_ratio, group=-1
            )
            best = "paper (recalled), best test / expert's best"
            bars += [paper, replace(paper, label=best, value=100 * row.max_ratio, is_best=True)]
    values = [
        f"{bar.category} {bar.value:.0f}%{' in the best test' if bar.is_best else ''}"
        for bar in bars
        if bar.group == 0
    ]
    return Chart(
        name="figure_6",
        title="Percent of the expert's score",
        alt=f"Student's score as percent of its expert's: {', '.join(values) or 'none known'}.",
        x_label="% of expert",
        bars=tuple(bars),
    )


def _own_bars(group: RunGroup, game: str, index: int) -> Iterator[Bar]:
    """Mean of the last tests and best test of one group; none where there is no percentage."""
    found = [(run.teacher(game).mean, summarize_tests(run, game)) for run in group.runs]
    means = [expert_ratio(scores.mean, expert) for expert, scores in found if scores]
    bests = [expert_ratio(scores.best, expert) for expert, scores in found if scores]
    for name, ratios in (("mean", means), ("best test", bests)):
        over_runs = estimate({game: [x for x in ratios if x is not None]}, "mean")
        if over_runs is not None:
            yield Bar(
                category=game,
                label=f"{group.label}, {name}",
                value=100 * over_runs.value,
                low=None if over_runs.low is None else 100 * over_runs.low,
                high=None if over_runs.high is None else 100 * over_runs.high,
                group=index,
                is_best=name != "mean",
            )


def ratios_of(group: RunGroup, game: str) -> list[float]:
    """Student / expert in the last test of every run that has both, as the paper's percentage."""
    runs = [run for run in group.runs if game in run.games]
    ratios = [expert_ratio(run.student(game).mean, run.teacher(game).mean) for run in runs]
    return [ratio for ratio in ratios if ratio is not None]


def normalized_of(group: RunGroup, game: str, reference: str) -> list[float]:
    """(student - random) / (reference - random), "teacher" or "human", in every run's last test."""
    values = []
    for run in group.runs:
        if game in run.games and (student := run.student(game).mean) is not None:
            high = (
                run.teacher(game).mean if reference == "teacher" else run.reference(game, "human")
            )
            values.append(normalized_score(student, run.reference(game, "random"), high))
    return [value for value in values if value is not None]


def learning_curve(groups: Sequence[RunGroup], game: str, over: Over, unit: Unit) -> Chart:
    """Figure 1 of the paper: the student's tests in one game, with its expert's scores as lines.

    Over time, a test stands where it was finished: its weights are older than that.
    """
    curves: list[Curve] = []
    for index, group in enumerate(groups):
        runs = [run for run in group.runs if game in run.games]
        tests = [_test_points(run.tests.get(game, ()), over, unit) for run in runs]
        # Beside those of other settings they would only be in the way.
        if len(groups) == 1 or not any(tests):
            label = "training episodes, exploring" if len(groups) == 1 else group.label
            curves.append(_training_returns(runs, game, over, unit, label, index))
        label = "student" if len(groups) == 1 else group.label
        curves.append(_over_runs(label, tests, index))
    last = [curve.y[-1] for curve in curves if curve.x and not curve.is_faint]
    said = f"ends at {last[0]:.4g}" if last else "has no test yet"
    levels = _expert_levels([run for group in groups for run in group.runs], game)
    return Chart(
        name=f"figure_1_{game}" if over == "steps" else f"figure_1_{game}_time",
        title=game,
        alt=f"Learning curve in {game} over {unit.name}: the student {said}; "
        + "; ".join(f"{level.label} {level.y:.4g}" for level in levels)
        + ".",
        x_label=unit.name,
        y_label="score",
        curves=tuple(curve for curve in curves if curve.x),
        levels=tuple(levels),
    )


def _expert_levels(runs: Sequence[RunRecord], game: str) -> list[Level]:
    for run in runs:
        if game in run.games and (teacher := run.teacher(game)).mean is not None:
            levels = [Level(label="expert, mean", y=teacher.mean)]
            if teacher.max is not None:
                levels.append(Level(label="expert, best episode", y=teacher.max, is_dashed=True))
            return levels
    return []


def _test_points(
    tests: Sequence[RecordedTest], over: Over, unit: Unit
) -> list[tuple[float, float]]:
    points = [
        (test.steps if over == "steps" else test.seconds, test.figures.get("mean"))
        for test in tests
    ]
    return [(x / unit.size, y) for x, y in points if x is not None and y is not None]


def _training_returns(
    runs: Sequence[RunRecord], game: str, over: Over, unit: Unit, label: str, index: int
) -> Curve:
    key = "steps" if over == "steps" else "seconds"
    points = sorted(point for run in runs for point in run.series(key, f"game/{game}/return"))
    x, y = _thin_out([(x / unit.size, y) for x, y in points])
    return Curve(label=label, x=x, y=y, group=index, is_faint=True)


def _over_runs(label: str, runs: Sequence[list[tuple[float, float]]], index: int) -> Curve:
    """Mean over runs, from the lowest to the highest; one run as it is."""
    runs = [sorted(points) for points in runs if points]
    if not runs:
        return Curve(label=label, x=(), y=(), group=index)
    if len(runs) == 1:
        x, y = _thin_out(runs[0])
        return Curve(label=label, x=x, y=y, group=index)
    # Runs are tested at slightly different steps: compare where all of them have been.
    start = max(points[0][0] for points in runs)
    end = min(points[-1][0] for points in runs)
    number = 1 if end <= start else min(_POINTS, max(len(points) for points in runs))
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


def progress_curves(groups: Sequence[RunGroup], over: Over, unit: Unit) -> Chart:
    """All games together, over steps or time: the interquartile mean of normalized scores."""
    curves = []
    for index, group in enumerate(groups):
        runs = [_progress_points(run, over, unit) for run in group.runs]
        label = "all games" if len(groups) == 1 else group.label
        curves.append(_over_runs(label, runs, index))
        if len(groups) == len(group.runs) == 1:
            for game in group.games:
                tests = _normalized_tests(group.runs[0], game)
                points = sorted((_position(test, over, unit), value) for test, value in tests)
                x, y = _thin_out(points)
                curves.append(Curve(label=game, x=x, y=y, group=index, is_faint=True))
    shown = tuple(curve for curve in curves if curve.x)
    last = [f"{curve.label} {curve.y[-1]:.2f}" for curve in shown if not curve.is_faint]
    return Chart(
        name=f"progress_{over}",
        title=f"Teacher-normalized score over {unit.name}",
        alt="Interquartile mean over games of (student - random) / (expert - random) over "
        f"{unit.name}; at the end: {', '.join(last) or 'no test yet'}.",
        x_label=unit.name,
        y_label="0 random, 1 expert",
        curves=shown,
        levels=(Level(label="expert", y=1.0),) if shown else (),
    )


def _progress_points(run: RunRecord, over: Over, unit: Unit) -> list[tuple[float, float]]:
    """One point for every test of all games; a test of some of them only is left out."""
    by_version: dict[object, list[tuple[float, float]]] = {}
    for game in run.games:
        for test, value in _normalized_tests(run, game):
            version = (test.steps, test.updates)
            by_version.setdefault(version, []).append((_position(test, over, unit), value))
    return [
        (max(x for x, _ in points), interquartile_mean([y for _, y in points]))
        for points in by_version.values()
        if len(points) == len(run.games)
    ]


def _position(test: RecordedTest, over: Over, unit: Unit) -> float:
    value = test.steps if over == "steps" else test.seconds
    assert value is not None
    return value / unit.size


def _normalized_tests(run: RunRecord, game: str) -> Iterator[tuple[RecordedTest, float]]:
    """A game's tests whose score, steps and time are known; 0 is random play, 1 the expert."""
    random, teacher = run.reference(game, "random"), run.teacher(game).mean
    for test in run.tests.get(game, ()):
        mean = test.figures.get("mean")
        if mean is None or test.steps is None or test.seconds is None:
            continue
        value = normalized_score(mean, random, teacher)
        if value is not None:
            yield test, value


def look_chart(
    groups: Sequence[RunGroup], key: str, unit: Unit, *, title: str, y_label: str
) -> Chart:
    """A figure of the run's looks over time, a line for each run."""
    curves = []
    for index, group in enumerate(groups):
        for number, run in enumerate(group.runs):
            points = [(x / unit.size, y) for x, y in run.series("seconds", key)]
            if points:
                x, y = _thin_out(points)
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


def _thin_out(
    points: Sequence[tuple[float, float]],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means of equal numbers of neighbours, where there are more than a picture shows."""
    size = max(1, math.ceil(len(points) / _POINTS))
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    xs = tuple(math.fsum(x for x, _ in part) / len(part) for part in parts)
    ys = tuple(math.fsum(y for _, y in part) / len(part) for part in parts)
    return xs, ys


def _games(groups: Sequence[RunGroup]) -> list[str]:
    """Of all groups, in their order, each once."""
    return list(dict.fromkeys(game for group in groups for game in group.games))
