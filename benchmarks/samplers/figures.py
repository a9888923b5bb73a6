"""The figures of the ablation of samplers: means over seeds, their intervals, tables and a plot.

Intervals are Student's t: mean +- t * s / sqrt(n) with the sample standard deviation s of n seeds.
A bootstrap of three values could give only ten different means; the t interval is exact for
values that are normal, and as wide as so few seeds deserve. Differences are paired: arms with equal
seeds begin from the same weights.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.samplers.units import Record
from networks.atomic_file import write_atomically
from records.run_statistics import Estimate
from views.report.charts import Chart, Curve

REFERENCE = "proportional"
"""The arm that differences are from: the default."""

# 97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom.
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
)
_FIGURES = ("kl", "agreement", "score", "cpu_s", "wall_s")
_AXES = {"updates": "updates", "cpu_s": "CPU seconds", "wall_s": "wall seconds"}
_MEASURES = {"kl": "KL (nats)", "agreement": "agreement"}


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One arm in one game after the last update, over seeds."""

    arm: str
    game: str
    kl: Estimate
    agreement: Estimate
    score: Estimate
    """Of the seeds' mean scores."""
    cpu_s: Estimate
    """Of training, all games together."""
    wall_s: Estimate
    kl_difference: Estimate | None
    """From the reference arm, seed by seed; None where that has not been trained."""
    agreement_difference: Estimate | None
    score_difference: Estimate | None


def t_interval(values: Sequence[float]) -> Estimate:
    """Mean with its 95 % interval by Student's t; without one for a single value.

    More than 21 values take the quantile of 21, which is too wide by less than 7 %.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, None, None, len(values))
    t = _T[min(len(values) - 2, len(_T) - 1)]
    half = t * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half, len(values))


def results(
    records: Sequence[Record], arms: Sequence[str], games: Sequence[str]
) -> list[ArmResult]:
    """Every arm in every game."""
    return [_result(records, arm, game) for game in games for arm in arms]


def _result(records: Sequence[Record], arm: str, game: str) -> ArmResult:
    own = last_figures(records, arm, game)
    reference = last_figures(records, REFERENCE, game)
    seeds = [seed for seed in own if seed in reference] if arm != REFERENCE else []

    def difference(name: str) -> Estimate | None:
        pairs = [own[seed][name] - reference[seed][name] for seed in seeds]
        return t_interval(pairs) if pairs else None

    values = {name: t_interval([row[name] for row in own.values()]) for name in _FIGURES}
    return ArmResult(
        arm=arm,
        game=game,
        **values,
        kl_difference=difference("kl"),
        agreement_difference=difference("agreement"),
        score_difference=difference("score"),
    )


def last_figures(records: Sequence[Record], arm: str, game: str) -> dict[int, dict[str, float]]:
    """By seed: KL, agreement and seconds after the last update, and the mean score."""
    own = [r for r in records if (r["arm"], r["game"]) == (arm, game)]
    figures: dict[int, dict[str, float]] = {}
    for record in sorted((r for r in own if r["kind"] == "curve"), key=lambda r: r["updates"]):
        names = ("kl", "agreement", "cpu_s", "wall_s")
        figures[record["seed"]] = {name: record[name] for name in names}
    for record in own:
        if record["kind"] == "score":
            figures[record["seed"]]["score"] = statistics.fmean(record["returns"])
    return figures


def charts(records: Sequence[Record], arms: Sequence[str], games: Sequence[str]) -> list[Chart]:
    """For each game KL and agreement, each over updates, CPU seconds and seconds of the wall."""
    return [
        Chart(
            name=f"{game}_{measure}_{axis}",
            title=f"{game}: {_MEASURES[measure]}",
            alt=f"{_MEASURES[measure]} in {game} over {_AXES[axis]}.",
            x_label=_AXES[axis],
            curves=tuple(
                _curve(records, arm, game, axis=axis, measure=measure, group=index)
                for index, arm in enumerate(arms)
            ),
        )
        for game in games
        for measure in _MEASURES
        for axis in _AXES
    ]


def _curve(
    records: Sequence[Record], arm: str, game: str, *, axis: str, measure: str, group: int
) -> Curve:
    """Means over seeds after equal numbers of updates, from the lowest to the highest seed.

    The student before the first update is left out: it would stretch the axis of the KL.
    """
    own = [
        r
        for r in records
        if (r["kind"], r["arm"], r["game"]) == ("curve", arm, game) and r["updates"] > 0
    ]
    by_updates: dict[int, list[Record]] = {}
    for record in own:
        by_updates.setdefault(record["updates"], []).append(record)
    points = [by_updates[updates] for updates in sorted(by_updates)]
    return Curve(
        label=arm.replace("_", ", "),
        x=tuple(statistics.fmean(r[axis] for r in point) for point in points),
        y=tuple(statistics.fmean(r[measure] for r in point) for point in points),
        low=tuple(min(r[measure] for r in point) for point in points),
        high=tuple(max(r[measure] for r in point) for point in points),
        group=group,
        style=group,
    )


def curves_csv(records: Sequence[Record]) -> str:
    """Every measurement, a line each."""
    names = ("arm", "seed", "game", "updates", "cpu_s", "wall_s", "kl", "agreement")
    text = io.StringIO()
    write = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    write.writeheader()
    write.writerows(record for record in records if record["kind"] == "curve")
    return text.getvalue()


def format_table(found: Sequence[ArmResult]) -> str:
    """In Markdown: figures with intervals, then differences from the default."""
    lines = [
        "| game | arm | KL (nats) | agreement | score | CPU s | wall s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found:
        cells = [
            row.game,
            row.arm,
            _words(row.kl, 3),
            _words(row.agreement, 3),
            _words(row.score, 1),
            # Seconds say what a student costs here; where the machine is shared they scatter.
            f"{row.cpu_s.value:.0f}",
            f"{row.wall_s.value:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"| game | arm minus {REFERENCE}, same seeds | KL (nats) | agreement | score |",
        "|---|---|---|---|---|",
    ]
    for row in found:
        differences = (row.kl_difference, row.agreement_difference, row.score_difference)
        if row.arm != REFERENCE and all(differences):
            cells = [_words(d, n) for d, n in zip(differences, (3, 3, 1), strict=True) if d]
            lines.append(f"| {row.game} | {row.arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _words(value: Estimate, digits: int) -> str:
    if value.low is None or value.high is None:
        return f"{value.value:.{digits}f}"
    return f"{value.value:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def write_plot(path: Path, panels: Sequence[Chart]) -> str:
    """Draw all charts into one picture and say where it is, or what is missing to draw it."""
    try:
        from views.report.drawing import LIGHT, draw_grid, on_white
    except ImportError:
        return "no plot: matplotlib is missing (pip install '.[report]')"
    write_atomically(path, on_white(draw_grid(panels, LIGHT, columns=len(_AXES))))
    return f"plot: {path}"
