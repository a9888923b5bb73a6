"""The result of a report in one sentence for each group of runs, which stands at the top."""

from __future__ import annotations

from records.run_statistics import Estimate, estimate
from views.report.groups import RunGroup
from views.report.scores import normalized_of
from views.words import percent, plural, score

# Games that a sentence lists one by one; of more, it names the extremes.
_MAX_NAMED = 8


def headline(group: RunGroup) -> str:
    """How far the network has come towards its experts or else human play, or else its scores."""
    for reference, name in (("teacher", "its experts"), ("human", "human play")):
        scores = {game: normalized_of(group, game, reference) for game in group.games}
        known = {game: values for game, values in scores.items() if values}
        if (iqm := estimate(known, "iqm")) is not None:
            so_far = "" if all(run.is_finished for run in group.runs) else "so far "
            return (
                f"The network has {so_far}come {percent(iqm.value)} of the way from random play to "
                f"{name} ({_basis(iqm, len(known))}): {_each(known)}."
            )
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
