"""Several runs side by side at the terminal: settings that differ, and what came of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from records.run_record import read_runs
from records.run_statistics import Estimate, estimate
from views.columns import table_lines
from views.report.groups import RunGroup, group_runs
from views.report.run_tables import RATES, rate_of, seconds_of
from views.words import NONE, duration, estimated, number, score, spread

Document = dict[str, Any]

_SCORES = ("mean", "low", "high", "std_over_episodes", "episodes", "expert")


def compare_runs(paths: Sequence[str]) -> list[Document]:
    """The figures of each group of runs that differ in nothing but their seed, as in a report.

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
        "name": group.label + ("" if all(r.is_finished for r in runs) else " (not finished)"),
        "runs": [str(run.path) for run in runs],
        "seeds": [run.seed for run in runs],
        "settings": dict(group.settings),
        "games": {game: _scores(group, game) for game in group.games},
        "steps": _mean([run.last.get("steps") for run in runs]),
        "wall_seconds": _mean([seconds_of(run) for run in runs]),
        **{name: _mean([rate_of(run, name) for run in runs]) for name in RATES},
    }


def _scores(group: RunGroup, game: str) -> Document:
    """The last test: mean over runs and its interval over seeds; of one run, over its episodes."""
    found = estimate({game: group.scores(game)}, "mean")
    tests = [run.student(game) for run in group.runs]
    std = tests[0].std if len(tests) == 1 else None
    interval = (found.value, found.low, found.high) if found else (None, None, None)
    episodes, expert = sum(test.episodes for test in tests), group.runs[0].teacher(game).mean
    return dict(zip(_SCORES, (*interval, std, episodes, expert), strict=True))


def as_lines(documents: Sequence[Document]) -> list[str]:
    """A table with a column for each group, and what its figures are."""
    rows = [
        ["runs", *(str(len(found["runs"])) for found in documents)],
        *([name, *(d["settings"][name] for d in documents)] for name in documents[0]["settings"]),
        *([game, *(_words(d["games"].get(game)) for d in documents)] for game in _games(documents)),
        ["steps", *(number(found["steps"]) for found in documents)],
        ["wall-clock", *(duration(found["wall_seconds"]) for found in documents)],
        *([f"{n[:-11]}/s", *(number(found[n], 1) for found in documents)] for n in RATES),
    ]
    return [
        *table_lines(["", *(found["name"] for found in documents)], rows),
        "Scores: raw, of the last test; in brackets the 95% interval over seeds, +- the standard "
        "deviation over episodes of a single run. Other figures: means over runs.",
    ]


def _games(documents: Sequence[Document]) -> list[str]:
    return list(dict.fromkeys(game for found in documents for game in found["games"]))


def _words(found: Document | None) -> str:
    if found is None or found["mean"] is None:
        return NONE
    if found["low"] is None:
        return spread(found["mean"], found["std_over_episodes"])
    return estimated(Estimate(found["mean"], found["low"], found["high"], 0), score)


def as_csv(documents: Sequence[Document]) -> str:
    """A row for each group and game, with a column for each setting that differs."""
    settings, figures = list(documents[0]["settings"]), ("steps", "wall_seconds", *RATES)
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n")
    write.writerow(["name", "seeds", *settings, "game", *_SCORES, *figures])
    for found in documents:
        own = [" ".join(map(str, found["seeds"])), *found["settings"].values()]
        rest = [found[name] for name in figures]
        for game, scores in found["games"].items():
            write.writerow([found["name"], *own, game, *scores.values(), *rest])
    return out.getvalue()


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
