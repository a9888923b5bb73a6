"""The tests that runs recorded, in plain text and as JSON: the figures of the report's table.

This is what `evaluate.py --recorded` prints; nothing is played.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from recipes.student import check_games
from records.recorded_tests import (
    RELATIVE_SCORES,
    EpochSettings,
    GameTests,
    OverGames,
    collect_tests,
    over_games,
    read_settings,
)
from records.run_record import RunRecord, read_run
from views.columns import table_lines
from views.report.groups import group_runs
from views.words import number, percent, score


@dataclass(frozen=True, slots=True)
class RecordedTests:
    """What the recorded tests of one run, or of several seeds of it, come to."""

    targets: tuple[str, ...]
    runs: tuple[RunRecord, ...]
    settings: EpochSettings
    games: Mapping[str, GameTests]
    together: Mapping[str, OverGames | None]

    def as_document(self) -> dict[str, Any]:
        """The JSON document of `evaluate.py --recorded --json`."""
        return {
            "targets": self.targets,
            "test": asdict(self.settings),
            "games": {game: own.as_row() for game, own in self.games.items()},
            "aggregate": {name: x.as_row() if x else None for name, x in self.together.items()},
        }

    def as_lines(self) -> list[str]:
        """A table of all games, what a test was, and a line for each score over all games."""
        headings = (
            "game", "mean of last", "tests", "runs", "best of last", "best", "human-norm.",
            "teacher", "% of teacher", "teacher-norm.",
        )  # fmt: skip
        rows = [_cells(game, own) for game, own in self.games.items()]
        lines = [*table_lines(headings, rows), f"tests: {self.settings.describe()}"]
        return lines + [
            self._describe_aggregate(RELATIVE_SCORES[name], found)
            for name, found in self.together.items()
            if found is not None
        ]

    def _describe_aggregate(self, name: str, found: OverGames) -> str:
        iqm = found.iqm
        text = f"interquartile mean, {name}: {iqm.value:.1%}"
        if iqm.low is not None and iqm.high is not None:
            text += (
                f" [{iqm.low:.1%}, {iqm.high:.1%}], 95% interval over {iqm.runs} runs by the "
                "stratified bootstrap"
            )
        elif len(self.runs) == 1:
            text += ", one seed has no interval"
        else:
            text += ", no interval: a game has it in one run only"
        if found.num_games < len(self.games):
            text += f", over {found.num_games} of {len(self.games)} games"
        return text


def _cells(game: str, tests: GameTests) -> list[str]:
    row = tests.as_row()
    return [
        game,
        score(row["mean"]),
        f"{row['averaged']} of {row['tests']}",
        number(row["runs"]),
        score(row["best_of_last"]),
        score(row["best"]),
        percent(row["human_normalized"]),
        score(row["teacher"]),
        percent(row["teacher_ratio"]),
        percent(row["teacher_normalized"]),
    ]


def read_recorded(targets: Sequence[str], games: Sequence[str], *, last: int) -> RecordedTests:
    """The recorded tests of some runs, which are taken as seeds of one setting.

    What may be wrong with the runs is said on standard error.
    """
    runs = _read_seeds(targets)
    chosen = check_games(games, runs[0].games)
    tests = {game: collect_tests(runs, game, last=last) for game in chosen}
    if not any(own.epochs for own in tests.values()):
        raise ValueError(f"no test is recorded yet in {', '.join(targets)}")
    return RecordedTests(tuple(targets), tuple(runs), read_settings(runs), tests, over_games(tests))


def _read_seeds(targets: Sequence[str]) -> list[RunRecord]:
    """The runs, each once and all of the same games."""
    groups = group_runs([read_run(target) for target in targets])
    runs = [run for group in groups for run in group.runs]
    for run in runs:
        if set(run.games) != set(runs[0].games):
            raise ValueError(
                f"runs of different games are no seeds of each other: {runs[0].path} has "
                f"{', '.join(runs[0].games)}, {run.path} has {', '.join(run.games)}"
            )
        for note in run.notes:
            _warn(note if len(runs) == 1 else f"{run.path}: {note}")
        if len(runs) > 1 and not run.is_finished:
            _warn(f"{run.path}: not finished, beside others")
    if len(groups) > 1:
        differences = "; ".join(group.differences for group in groups)
        _warn(f"the runs differ in more than their seeds: {differences}")
    for group in groups:
        for seed in group.repeated_seeds:
            _warn(f"several runs have the seed {seed}; intervals are too narrow")
    return runs


def _warn(text: str) -> None:
    print(text, file=sys.stderr)
