"""What the tests that runs recorded come to, by the statistics of the Actor-Mimic paper.

Nothing is played here. Several runs are seeds of one setting: figures of one game are means over
them, and figures of all games come with their intervals (records/run_statistics.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from games.spec import normalized_score
from records.run_record import RunRecord, number
from records.run_statistics import (
    PAPER_EPOCHS,
    EpochScores,
    Estimate,
    estimate,
    summarize_epochs,
)
from records.summary import score_ratio

# Steps of one test of one game in the Actor-Mimic paper.
PAPER_TEST_STEPS = 125_000
# Steps of one game between two of its tests in the paper.
PAPER_PERIOD_STEPS = 250_000
# Probability of a random action in the paper's tests.
PAPER_EPSILON = 0.05
# Our rules that are the paper's.
PAPER_PROTOCOL = "classic"

# Scores that games can be compared by, and what they are called; defined in docs/report.md.
RELATIVE_SCORES: Mapping[str, str] = MappingProxyType(
    {
        "teacher_ratio": "percent of expert",
        "teacher_normalized": "teacher-normalized",
        "human_normalized": "human-normalized",
    }
)


@dataclass(frozen=True, slots=True)
class EpochSettings:
    """How runs test their student; None for what is not known or not the same in all of them."""

    episodes: int | None
    """Whole episodes of each game in the test at the end of the run."""
    period_episodes: int | None
    """Whole episodes of each game in a test while the run goes on."""
    period_steps: int | None
    """Steps of all games together between two tests; 0: only at the end."""
    epsilon: float | None
    protocol: str | None

    def describe(self) -> str:
        """What one test is, and what it is in the paper; to stand behind "tests"."""
        if self.period_steps == 0:
            ours = f"each of {_episodes(self.episodes)} at the end of the run"
        else:
            ours = f"each of {_episodes(self.period_episodes)}"
            if self.period_steps is not None:
                ours += f" every {self.period_steps:,} steps of all games"
            if self.period_episodes != self.episodes:
                ours += f" and of {_episodes(self.episodes)} at the end of the run"
        theirs = f"{PAPER_TEST_STEPS:,} steps every {PAPER_PERIOD_STEPS:,} of each game"
        further = describe_rules(epsilon=self.epsilon, protocol=self.protocol)
        return f"{', '.join([ours, *further])} (paper: {', '.join([theirs, *further.values()])})"


def _episodes(count: int | None) -> str:
    number_of = "an unknown number of" if count is None else f"{count:,}"
    return f"{number_of} episode{'' if count == 1 else 's'}"


def describe_rules(*, epsilon: float | None, protocol: str | None) -> dict[str, str]:
    """The rules of a test that are not the paper's, each with the paper's; unknown ones are not."""
    differs = {}
    if protocol is not None and protocol != PAPER_PROTOCOL:
        differs[f"protocol {protocol}"] = f"protocol {PAPER_PROTOCOL}"
    if epsilon is not None and not math.isclose(epsilon, PAPER_EPSILON):
        differs[f"epsilon {epsilon:g}"] = f"epsilon {PAPER_EPSILON:g}"
    return differs


def read_settings(runs: Sequence[RunRecord]) -> EpochSettings:
    """Rules by which the runs' recorded tests were played, from their configuration."""

    def common(*path: str) -> Any:
        return _common([number(run.setting("evaluation", *path)) for run in runs])

    def whole(value: float | None) -> int | None:
        return None if value is None else int(value)

    # 0, or nothing in the record of an older version, stands for as many as at the end.
    meanwhile = [
        number(run.setting("evaluation", "period_episodes"))
        or number(run.setting("evaluation", "num_episodes"))
        for run in runs
    ]
    protocol = _common([run.setting("protocol") for run in runs])
    return EpochSettings(
        episodes=whole(common("num_episodes")),
        period_episodes=whole(_common(meanwhile)),
        period_steps=whole(common("period_steps")),
        epsilon=common("epsilon"),
        protocol=None if protocol is None else str(protocol),
    )


def _common(values: Sequence[Any]) -> Any:
    """The one value that all have, None where they differ."""
    return values[0] if values and all(value == values[0] for value in values) else None


def summarize_tests(run: RunRecord, game: str, *, last: int = PAPER_EPOCHS) -> EpochScores | None:
    """The paper's statistics of one run's tests of a game; None where there is no test."""
    if game not in run.games:
        return None
    means = [test.figures.get("mean", math.nan) for test in run.tests[game]]
    return summarize_epochs(means, last=last)


def expert_ratio(score: float | None, expert: float | None) -> float | None:
    """Student / expert, the paper's percentage; None unless the expert's score is positive."""
    if score is None or expert is None or expert <= 0:
        return None
    return score_ratio(score, expert)


def relative_scores(run: RunRecord, game: str, score: float) -> dict[str, float | None]:
    """A raw score beside the expert's, random and human play: a value for each RELATIVE_SCORES."""
    expert, random = run.teacher(game).mean, run.reference(game, "random")
    return {
        "teacher_ratio": expert_ratio(score, expert),
        "teacher_normalized": normalized_score(score, random, expert),
        "human_normalized": normalized_score(score, random, run.reference(game, "human")),
    }


@dataclass(frozen=True, slots=True)
class GameTests:
    """One game's recorded tests, a value for each run that has any."""

    epochs: tuple[EpochScores, ...]
    # By RELATIVE_SCORES, of the means of the last tests; of the runs in which it exists.
    relative: Mapping[str, tuple[float, ...]]
    # Mean on the expert's card.
    teacher: float | None

    def as_row(self) -> dict[str, Any]:
        """Means over runs, JSON-safe; None for what does not exist."""
        return {
            "mean": _mean([scores.mean for scores in self.epochs]),
            "best_of_last": _mean([scores.best_of_last for scores in self.epochs]),
            "best": _mean([scores.best for scores in self.epochs]),
            "averaged": min((scores.num_averaged for scores in self.epochs), default=0),
            "tests": min((scores.num_tests for scores in self.epochs), default=0),
            "runs": len(self.epochs),
            "teacher": self.teacher,
            **{name: _mean(values) for name, values in self.relative.items()},
        }


def collect_tests(runs: Sequence[RunRecord], game: str, *, last: int = PAPER_EPOCHS) -> GameTests:
    """What the tests of one game say in runs that are seeds of one setting."""
    found = [(run, summarize_tests(run, game, last=last)) for run in runs]
    tested = [(run, scores) for run, scores in found if scores is not None]
    relative = [relative_scores(run, game, scores.mean) for run, scores in tested]
    teachers = [mean for run in runs if (mean := run.teacher(game).mean) is not None]
    return GameTests(
        epochs=tuple(scores for _, scores in tested),
        relative={
            name: tuple(x for values in relative if (x := values[name]) is not None)
            for name in RELATIVE_SCORES
        },
        teacher=teachers[0] if teachers else None,
    )


@dataclass(frozen=True, slots=True)
class OverGames:
    """The interquartile mean of one of RELATIVE_SCORES over games and runs."""

    iqm: Estimate
    # Games that have the score.
    num_games: int

    def as_row(self) -> dict[str, Any]:
        """JSON-safe; `low` and `high` are None where there is no interval."""
        figures = asdict(self.iqm)
        return {"iqm": figures.pop("value"), **figures, "games": self.num_games}


def over_games(tests: Mapping[str, GameTests]) -> dict[str, OverGames | None]:
    """Statistics of RELATIVE_SCORES over all games; None for a score that no game has."""
    found = {}
    for name in RELATIVE_SCORES:
        scores = {game: own.relative[name] for game, own in tests.items() if own.relative[name]}
        iqm = estimate(scores, "iqm")
        found[name] = OverGames(iqm, len(scores)) if iqm is not None else None
    return found


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
