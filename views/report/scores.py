"""Scores that games can be compared by, in the last test of every run of a group; and in words."""

from __future__ import annotations

from games.spec import normalized_score
from records.recorded_tests import expert_ratio
from records.run_statistics import Estimate, estimate
from views.report.groups import RunGroup
from views.words import percent, plural, score

# Games that a sentence lists one by one; of more, it names the extremes.
_MAX_NAMED = 8


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


def headline(group: RunGroup) -> str:
    """How far the network has come towards its experts or else human play, or else its scores."""
    for reference, name in (("teacher", "its experts"), ("human", "human play")):
        scores = {game: normalized_of(group, game, reference) for game in group.games}
        known = {game: values for game, values in scores.items() if values}
        if (iqm := estimate(known, "iqm")) is not None:
            so_far = "" if all(run.is_finished for run in group.runs) else "so far "
            # A way below zero would be read as a defect; it is what a short run comes to.
            way = (
                f"has {so_far}come {percent(iqm.value)} of the way from random play to {name}"
                if iqm.value > 0
                else f"is not above random play yet, on its way to {name}"
            )
            return f"The network {way} ({_basis(iqm, len(known))}): {_each(known)}."
    means = {game: values for game in group.games if (values := group.scores(game))}
    if not means:
        return "No test of the network has been played yet."
    named = [f"{game} {score(sum(values) / len(values))}" for game, values in means.items()]
    return f"Mean scores of the last test: {', '.join(named[:_MAX_NAMED])}."


def _basis(iqm: Estimate, num_games: int) -> str:
    text = f"interquartile mean over {plural(num_games, 'game')}" if num_games > 1 else "last test"
    if iqm.low is not None and iqm.high is not None:
        text += f", 95% interval {percent(iqm.low)} to {percent(iqm.high)} over {iqm.runs} seeds"
    return text


def _each(scores: dict[str, list[float]]) -> str:
    means = {game: sum(values) / len(values) for game, values in scores.items()}
    if len(means) <= _MAX_NAMED:
        return ", ".join(f"{game} {percent(mean)}" for game, mean in means.items())
    least, most = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    return f"from {percent(means[least])} in {least} to {percent(means[most])} in {most}"
