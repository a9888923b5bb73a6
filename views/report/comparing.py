"""Several runs side by side at the terminal: what differs in their settings, and what came of it.

Runs that differ in nothing but their seed are one column, as in a report.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from records.run_record import RunRecord, read_runs
from records.run_statistics import Estimate, estimate
from views.columns import table_lines
from views.report.groups import RunGroup, group_runs
from views.report.run_tables import RATES, rate_of, seconds_of
from views.words import NONE, duration, estimated, number, score, spread

Document = dict[str, Any]


def compare_runs(paths: Sequence[str | Path]) -> list[Document]:
    """A document for each group of runs that learn by the same settings.

    Raises:
        ValueError: a folder without a run, or nothing to compare with.
    """
    groups = group_runs([record for path in paths for record in read_runs(path)])
    if sum(len(group.runs) for group in groups) < 2:
        raise ValueError("one run has nothing to be compared with; name two or more")
    return [_describe(group) for group in groups]


def _describe(group: RunGroup) -> Document:
    runs = group.runs
    return {
        "name": group.label,
        "runs": [str(run.path) for run in runs],
        "seeds": [run.seed for run in runs],
        "finished": all(run.is_finished for run in runs),
        "settings": dict(group.settings),
        "games": {game: _scores(group, game) for game in group.games},
        "steps": _mean([run.last.get("steps") for run in runs]),
        "wall_seconds": _mean([seconds_of(run) for run in runs]),
        **{name: _mean([rate_of(run, name) for run in runs]) for name in RATES},
    }


def _scores(group: RunGroup, game: str) -> Document:
    """The last test: mean over runs and its interval over seeds; of one run, over its episodes."""
    found = estimate({game: group.scores(game)}, "mean")
    alone: RunRecord | None = group.runs[0] if len(group.runs) == 1 else None
    return {
        "mean": found and found.value,
        "low": found and found.low,
        "high": found and found.high,
        "std_over_episodes": alone and alone.student(game).std,
        "episodes": sum(run.student(game).episodes for run in group.runs),
        "expert": group.runs[0].teacher(game).mean,
    }


def as_lines(documents: Sequence[Document]) -> list[str]:
    """A table with a column for each group, and what its figures are."""
    rows: list[list[str]] = [
        ["runs", *(f"{len(found['runs'])}" for found in documents)],
        *_setting_rows(documents),
        *([game, *(_words(found, game) for found in documents)] for game in _games(documents)),
        ["steps", *(number(found["steps"]) for found in documents)],
        ["wall-clock", *(duration(found["wall_seconds"]) for found in documents)],
        *(
            [name.replace("_per_second", "/s"), *(number(found[name], 1) for found in documents)]
            for name in RATES
        ),
    ]
    names = [f"{d['name']}{'' if d['finished'] else ' (not finished)'}" for d in documents]
    return [
        *table_lines(["", *names], rows),
        "Scores: raw, of the last test; in brackets the 95% interval over seeds, +- the standard "
        "deviation over episodes of a single run. Other figures: means over runs.",
    ]


def _setting_rows(documents: Sequence[Document]) -> list[list[str]]:
    names = dict.fromkeys(name for found in documents for name in found["settings"])
    return [[name, *(str(d["settings"].get(name, NONE)) for d in documents)] for name in names]


def _games(documents: Sequence[Document]) -> list[str]:
    return list(dict.fromkeys(game for found in documents for game in found["games"]))


def _words(document: Document, game: str) -> str:
    found: Mapping[str, Any] | None = document["games"].get(game)
    if found is None or found["mean"] is None:
        return NONE
    if found["low"] is None:
        return spread(found["mean"], found["std_over_episodes"])
    return estimated(
        Estimate(found["mean"], found["low"], found["high"], len(document["runs"])), score
    )


def as_csv(documents: Sequence[Document]) -> str:
    """A row for each group and game, with every figure; settings in columns of their own."""
    settings = list(dict.fromkeys(name for found in documents for name in found["settings"]))
    head = ["name", "seeds", *settings, "game", *_SCORE_COLUMNS, "steps", "wall_seconds", *RATES]
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n")
    write.writerow(head)
    for found in documents:
        seeds = " ".join(map(str, found["seeds"]))
        own = [found["settings"].get(name) for name in settings]
        rest = [found[name] for name in ("steps", "wall_seconds", *RATES)]
        for game, scores in found["games"].items():
            figures = [scores[name] for name in _SCORE_COLUMNS]
            write.writerow([found["name"], seeds, *own, game, *figures, *rest])
    return out.getvalue()


_SCORE_COLUMNS = ("mean", "low", "high", "std_over_episodes", "episodes", "expert")


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
