"""Scores that games can be compared by, in the last test of every run of a group."""

from __future__ import annotations

from games.spec import normalized_score
from records.recorded_tests import expert_ratio
from views.report.groups import RunGroup


def ratios_of(group: RunGroup, game: str) -> list[float]:
    """Student / expert, the paper's percentage, for every run that has both."""
    runs = [run for run in group.runs if game in run.games]
    ratios = [expert_ratio(run.student(game).mean, run.teacher(game).mean) for run in runs]
    return [ratio for ratio in ratios if ratio is not None]


def normalized_of(group: RunGroup, game: str, reference: str) -> list[float]:
    """(student - random) / (reference - random) for every run; reference: "teacher" or "human"."""
    values = []
    for run in group.runs:
        if game in run.games and (student := run.student(game).mean) is not None:
            high = (
                run.teacher(game).mean if reference == "teacher" else run.reference(game, "human")
            )
            values.append(normalized_score(student, run.reference(game, "random"), high))
    return [value for value in values if value is not None]
