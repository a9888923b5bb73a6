"""What the console says of a run: its tables and lines, computed from the recorder's figures.

Pure functions of figures (keys: docs/metrics.md); views/console.py puts them on the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.table import Table

from records.faults import num_mended
from records.verdict import LIMITS
from views.words import duration, number, percent, rate, score, spread

Figures = Mapping[str, float]


def rates(latest: Figures) -> list[str]:
    """Steps so far, throughput and what limits it, and faults if there were any."""
    parts = [
        f"{number(latest.get('steps'))} steps",
        f"{rate(latest.get('steps_per_second'))} steps/s",
        f"{rate(latest.get('samples_per_second'))} samples/s",
        f"{rate(latest.get('updates_per_second'))} updates/s",
        f"{number(latest.get('samples_per_insert'), 2)} samples/insert",
        f"lag {number(latest.get('policy_lag'))}",
    ]
    parts += [f"limit: {limit}" for limit in LIMITS if latest.get(f"limit/{limit}")]
    faults = num_mended(under("faults/", latest))
    return [*parts, f"{number(faults)} faults"] if faults else parts


def games_table(
    games: Sequence[str],
    latest: Figures,
    *,
    capacity: int,
    teachers: Mapping[str, float],
    best: Mapping[str, float],
) -> Table:
    """One row a game: how it is played, stored and learned, and its last test."""
    # A run without teachers shows its own best tests instead.
    has_teachers = bool(teachers) or any(key.endswith("/teacher_mean") for key in latest)
    # Ten columns that fit into a terminal of 80.
    table = _table(
        ["actors", "steps\n/s", "games\nplayed", "return", "replay", "samples\n/insert", "test"]
        + (["teacher", "agrees"] if has_teachers else ["best"])
    )
    for game in games:
        play, test = under(f"game/{game}/", latest), under(f"test/{game}/", latest)
        teacher = test.get("teacher_mean", teachers.get(game))
        table.add_row(
            game,
            number(play.get("actors")),
            rate(play.get("steps_per_second")),
            number(play.get("episodes")),
            score(play.get("return")),
            percent(play.get("replay_size", 0) / capacity),
            number(play.get("samples_per_insert"), 2),
            score(test.get("mean")),
            *([score(teacher), percent(test.get("agreement"))] if has_teachers else []),
            *([] if has_teachers else [score(best.get(game))]),
        )
    return table


def describe_test(game: str, latest: Figures) -> str:
    """The last test of a game in words; of a teacher only where there is one."""
    test = under(f"test/{game}/", latest)
    text = f"test of {game}: student {spread(test.get('mean'), test.get('std'))}"
    if (teacher := test.get("teacher_mean")) is not None:
        text += f", teacher {score(teacher)}"
    if (agreement := test.get("agreement")) is not None:
        text += f", agreement {percent(agreement)}"
    return text


def under(prefix: str, latest: Figures) -> dict[str, float]:
    """The figures whose keys begin with `prefix`, without it."""
    return {key.removeprefix(prefix): x for key, x in latest.items() if key.startswith(prefix)}


def result_table(summary: Mapping[str, Any], *, write: Callable[[str], str] = str) -> Table:
    """One row a game: student against teacher, or against human play in a run without teachers."""
    games = summary["games"]
    if any(_mean_of(row, "teacher") is not None for row in games.values()):
        table = _table(["student", "teacher", "teacher-\nnormalized", "agreement"], gap=3)
        for game, row in games.items():
            table.add_row(
                game,
                write(_spread_of(row, "student")),
                write(_spread_of(row, "teacher")),
                percent(row["teacher_normalized"]),
                percent(row["agreement"]),
            )
        return table
    table = _table(["score", "best episode", "human", "human-\nnormalized"], gap=3)
    for game, row in games.items():
        table.add_row(
            game,
            write(_spread_of(row, "student")),
            score((row["student"] or {}).get("max")),
            score(row["human"]),
            percent(row["human_normalized"]),
        )
    return table


def _mean_of(row: Mapping[str, Any], who: str) -> float | None:
    mean: float | None = (row[who] or {}).get("mean")
    return mean


def _spread_of(row: Mapping[str, Any], who: str) -> str:
    figures = row[who] or {}
    return spread(figures.get("mean"), figures.get("std"))


def result_lines(summary: Mapping[str, Any]) -> list[str]:
    """What is said of all games together; scores that do not exist are left out."""
    lines = []
    for label, name in (
        ("teacher-normalized", "teacher_normalized"),
        ("student / teacher", "teacher_ratio"),
    ):
        lines += _aggregate_line(label, summary["aggregate"][name], name)
    steps = sum(summary["steps"].values())
    lines.append(
        f"{duration(summary['wall_seconds'])}: {steps:,} steps ({summary['frames']:,} frames), "
        f"{summary['updates']:,} updates"
    )
    return lines


def _aggregate_line(label: str, figures: Mapping[str, float | None], name: str) -> list[str]:
    """One line, or none where the figures do not exist or say nothing."""
    capped = figures["capped_mean"]
    if capped is None:
        return []
    if capped <= 0:
        # A percentage below zero would be read as a defect; it is what a short run comes to.
        is_normalized = name == "teacher_normalized"
        return ["not above random play yet: it has learned too little"] if is_normalized else []
    parts = {
        "capped mean": capped,
        "geometric mean": figures["geometric_mean"],
        "median": figures["median"],
    }
    known = [f"{what} {percent(x)}" for what, x in parts.items() if x is not None]
    return [f"{label}: {', '.join(known)}"]


def _table(headings: Sequence[str], *, gap: int = 1) -> Table:
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False)
    table.add_column("game", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
