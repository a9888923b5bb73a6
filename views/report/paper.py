"""The numbers of the Actor-Mimic paper's first table, and ours by the same statistics beside them.

The paper's values are recalled, not copied from its print: its percentages can be computed from
them to four digits, and its text agrees with them. They are marked so wherever they are shown.
Its statistics: the student's mean is of the last ten of a hundred tests of 125,000 steps, its
maximum the best of them, both averaged over two networks; the expert's likewise.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from types import MappingProxyType

from records.recorded_tests import GameTests, collect_tests, expert_ratio, read_settings
from records.run_statistics import Estimate, estimate
from views.report.groups import RunGroup
from views.words import plural


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


# Scores of the expert (DQN) and the student (AMN) of the multitask experiment, by game.
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


@dataclass(frozen=True, slots=True)
class OurRow:
    """One game of one group of runs, by the paper's statistics."""

    game: str
    tests: GameTests

    @property
    def paper(self) -> PaperRow | None:
        """The paper's row; None for a game that is not in its table."""
        return PAPER_TABLE.get(self.game)

    @property
    def student_mean(self) -> Estimate | None:
        """Mean over runs of the mean of the last tests."""
        return estimate({self.game: [scores.mean for scores in self.tests.epochs]}, "mean")

    @property
    def student_best(self) -> Estimate | None:
        """Mean over runs of the best test."""
        return estimate({self.game: [scores.best for scores in self.tests.epochs]}, "mean")

    @property
    def mean_ratio(self) -> float | None:
        """Student / expert of the means."""
        return self._ratio(self.student_mean)

    @property
    def best_ratio(self) -> float | None:
        """Best test / the expert's mean: an expert's card has one test, not the best of many."""
        return self._ratio(self.student_best)

    @property
    def num_averaged(self) -> int:
        """Tests in a run's mean, the fewest of any run."""
        return min((scores.num_averaged for scores in self.tests.epochs), default=0)

    @property
    def num_tests(self) -> int:
        """Tests of a run, the fewest of any run."""
        return min((scores.num_tests for scores in self.tests.epochs), default=0)

    def _ratio(self, student: Estimate | None) -> float | None:
        return expert_ratio(student.value if student else None, self.tests.teacher)


def build_rows(group: RunGroup) -> list[OurRow]:
    """A row for each game of the group: the paper's games first, in its order."""
    shared = [game for game in PAPER_TABLE if game in group.games]
    others = [game for game in group.games if game not in PAPER_TABLE]
    return [OurRow(game, collect_tests(group.runs, game)) for game in [*shared, *others]]


def describe_tests(group: RunGroup) -> str:
    """Over which tests the group's means are, and what a test was."""
    tested = [row for row in build_rows(group) if row.num_tests]
    if not tested:
        return "no test yet"
    averaged = plural(min(row.num_averaged for row in tested), "test")
    total = min(row.num_tests for row in tested)
    return f"means over the last {averaged} of {total}, {read_settings(group.runs).describe()}"


_PAPER_COLUMNS = (
    "expert_mean", "expert_max", "student_mean", "student_max", "mean_ratio", "max_ratio",
)  # fmt: skip
_OUR_COLUMNS = (
    "expert_mean", "student_mean", "student_best_test", "mean_ratio", "best_test_to_expert_mean",
    "tests_averaged", "tests", "runs",
)  # fmt: skip


def as_csv(rows: Sequence[OurRow]) -> str:
    """The table as a file; the names of the paper's columns say that they are recalled."""
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n")
    recalled = [f"paper_{name}_recalled" for name in _PAPER_COLUMNS]
    write.writerow(["game", *recalled, *_OUR_COLUMNS])
    write.writerows([row.game, *_paper_cells(row.paper), *_our_cells(row)] for row in rows)
    return text.getvalue()


def _paper_cells(paper: PaperRow | None) -> Sequence[object]:
    if paper is None:
        return [None] * len(_PAPER_COLUMNS)
    return [*astuple(paper), paper.mean_ratio, paper.max_ratio]


def _our_cells(row: OurRow) -> Sequence[object]:
    mean, best = row.student_mean, row.student_best
    return [
        row.tests.teacher,
        mean.value if mean else None,
        best.value if best else None,
        row.mean_ratio,
        row.best_ratio,
        row.num_averaged,
        row.num_tests,
        mean.runs if mean else 0,
    ]
