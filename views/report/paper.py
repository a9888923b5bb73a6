"""The numbers of the Actor-Mimic paper's first table, and ours beside them.

The paper's values are recalled, not copied from its print: its percentages can be computed from
them to four digits, and its text agrees with them. They are marked so wherever they are shown.
Its statistics: the student's mean is of the last ten of a hundred tests of 125,000 steps, its
maximum the best of them, both averaged over two networks; the expert's likewise.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from records.recorded_tests import expert_ratio, read_settings, summarize_tests
from records.run_statistics import Estimate, estimate
from views.report.groups import RunGroup


@dataclass(frozen=True, slots=True)
class PaperRow:
    """Raw scores of one game."""

    expert_mean: float
    expert_max: float
    student_mean: float
    student_max: float

    @property
    def mean_ratio(self) -> float:
        """Student / expert of the means."""
        return self.student_mean / self.expert_mean

    @property
    def max_ratio(self) -> float:
        """Student / expert of the maxima."""
        return self.student_max / self.expert_max


PAPER_TABLE: Mapping[str, PaperRow] = MappingProxyType(
    {
        "atlantis": PaperRow(57279, 541000, 165065, 584196),
        "boxing": PaperRow(81.47, 88.02, 76.264, 81.860),
        "breakout": PaperRow(273.15, 377.96, 347.01, 370.32),
        "crazy_climber": PaperRow(96189, 117593, 57070, 74342),
        "enduro": PaperRow(457.60, 808.00, 499.3, 686.77),
        "pong": PaperRow(19.581, 20.140, 15.275, 18.780),
        "seaquest": PaperRow(4278.9, 6200.5, 1177.3, 1466.0),
        "space_invaders": PaperRow(1669.2, 2109.7, 1142.4, 1349.0),
    }
)
"""By game: the expert (DQN) and the student (AMN) of the multitask experiment."""


@dataclass(frozen=True, slots=True)
class OurRow:
    """One game of one group of runs, by the paper's statistics."""

    game: str
    paper: PaperRow | None
    expert_mean: float | None
    student_mean: Estimate | None
    """Over runs, of the mean of the last tests."""
    student_best: Estimate | None
    """Over runs, of the best test."""
    num_averaged: int
    """Tests in a run's mean, the fewest of any run."""
    num_tests: int
    """Tests of a run, the fewest of any run."""

    @property
    def mean_ratio(self) -> float | None:
        """Student / expert of the means."""
        return self._ratio(self.student_mean)

    @property
    def best_ratio(self) -> float | None:
        """Best test / the expert's mean: an expert's card has one test, not the best of many."""
        return self._ratio(self.student_best)

    def _ratio(self, student: Estimate | None) -> float | None:
        return expert_ratio(student.value if student else None, self.expert_mean)


def build_rows(group: RunGroup) -> list[OurRow]:
    """The paper's games first, in its order; then those that only our runs have."""
    others = [game for game in group.games if game not in PAPER_TABLE]
    return [_row(group, game) for game in [*PAPER_TABLE, *others]]


def _row(group: RunGroup, game: str) -> OurRow:
    runs = [run for run in group.runs if game in run.games]
    epochs = [scores for run in runs if (scores := summarize_tests(run, game))]
    experts = [mean for run in runs if (mean := run.teacher(game).mean) is not None]
    return OurRow(
        game=game,
        paper=PAPER_TABLE.get(game),
        expert_mean=experts[0] if experts else None,
        student_mean=estimate({game: [scores.mean for scores in epochs]}, "mean"),
        student_best=estimate({game: [scores.best for scores in epochs]}, "mean"),
        num_averaged=min((scores.num_averaged for scores in epochs), default=0),
        num_tests=min((scores.num_tests for scores in epochs), default=0),
    )


def describe_tests(group: RunGroup) -> str:
    """Over which tests the group's means are, and what a test was."""
    tested = [row for row in build_rows(group) if row.num_tests]
    if not tested:
        return "no test yet"
    averaged = min(row.num_averaged for row in tested)
    tests = f"{averaged} test" if averaged == 1 else f"{averaged} tests"
    total = min(row.num_tests for row in tested)
    return f"means over the last {tests} of {total}, {read_settings(group.runs).describe()}"


def as_csv(rows: Sequence[OurRow]) -> str:
    """The table as a file; the paper's columns say that they are recalled."""
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n")
    write.writerow(
        [
            "game",
            *(
                f"paper_{name}_recalled"
                for name in (
                    "expert_mean", "expert_max", "student_mean", "student_max", "mean_ratio",
                    "max_ratio",
                )
            ),
            "expert_mean", "student_mean", "student_best_test", "mean_ratio",
            "best_test_to_expert_mean", "tests_averaged", "tests", "runs",
        ]
    )  # fmt: skip
    for row in rows:
        paper = row.paper
        write.writerow(
            [
                row.game,
                *(
                    (
                        paper.expert_mean, paper.expert_max, paper.student_mean,
                        paper.student_max, paper.mean_ratio, paper.max_ratio,
                    )
                    if paper
                    else ("",) * 6
                ),
                row.expert_mean,
                row.student_mean.value if row.student_mean else None,
                row.student_best.value if row.student_best else None,
                row.mean_ratio,
                row.best_ratio,
                row.num_averaged,
                row.num_tests,
                row.student_mean.runs if row.student_mean else 0,
            ]
        )  # fmt: skip
    return text.getvalue()
