"""Figures over games and seeds, with intervals: what may be said of several runs together.

The aggregates and the stratified bootstrap of Agarwal et al. 2021 ("Deep Reinforcement Learning at
the Edge of the Statistical Precipice", https://arxiv.org/abs/2108.13264, section 4), and the
statistics of the Actor-Mimic paper's table. Pure functions of numbers.

Scores come as one sequence for each game, with one value for each run (seed) in it. Games may have
different numbers of runs. In array shapes: R runs of one game, any axes before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
# From [..., R] of each game to [...].
Aggregate: TypeAlias = Callable[[Sequence[Floats]], Floats]

CONFIDENCE = 0.95
REPETITIONS = 2000
# Tests at the end of training over which the Actor-Mimic paper averages (its epochs 91 to 100).
PAPER_EPOCHS = 10


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure over runs, and where it may lie had there been other seeds."""

    value: float
    # Lower end of the interval; None where no interval exists: a game has one run only.
    low: float | None
    high: float | None
    # Fewest runs that a game has.
    runs: int


@dataclass(frozen=True, slots=True)
class EpochScores:
    """What the Actor-Mimic paper's table says of the tests of one run in one game."""

    # Of the last tests' means.
    mean: float
    # Highest mean of the tests in `mean`: how far the end of training goes up and down.
    best_of_last: float
    # Highest mean of any test, however early: the paper's maximum. It grows with the number of
    # tests alone, and belongs to weights that the run may have left behind.
    best: float
    # Tests in `mean` and `best_of_last`; the paper has 10.
    num_averaged: int
    # Tests in `best`; the paper has 100.
    num_tests: int


def summarize_epochs(means: Sequence[float], *, last: int = PAPER_EPOCHS) -> EpochScores | None:
    """Mean and maximum of the last tests and maximum of all; None where there is no test.

    The tests' means come oldest first; what is not finite is left out.
    """
    known = [value for value in means if math.isfinite(value)]
    if not known:
        return None
    end = known[-last:]
    return EpochScores(
        mean=math.fsum(end) / len(end),
        best_of_last=max(end),
        best=max(known),
        num_averaged=len(end),
        num_tests=len(known),
    )


def interquartile_mean(values: Sequence[float]) -> float:
    """Mean of the middle half: a quarter of the values, rounded down, is cut off at each end.

    Raises:
        ValueError: no values.
    """
    if not len(values):
        raise ValueError("an interquartile mean needs at least one value")
    return float(_interquartile_mean([np.asarray(values, np.float64)]))


def _interquartile_mean(games: Sequence[Floats]) -> Floats:
    """Over the scores of all games and runs, pooled."""
    pooled = np.sort(np.concatenate(games, axis=-1), axis=-1)
    cut = pooled.shape[-1] // 4
    middle: Floats = pooled[..., cut : pooled.shape[-1] - cut].mean(-1)
    return middle


def _mean(games: Sequence[Floats]) -> Floats:
    """Each game counts the same, however many runs it has."""
    mean: Floats = _means_of_games(games).mean(-1)
    return mean


def _median(games: Sequence[Floats]) -> Floats:
    """Median of the games' means over runs."""
    return np.asarray(np.median(_means_of_games(games), axis=-1), np.float64)


def _geometric_mean(games: Sequence[Floats]) -> Floats:
    """Geometric mean of the games' means over runs; nan where one of them is not positive."""
    means = _means_of_games(games)
    positive = (means > 0).all(-1)
    logs = np.log(np.where(means > 0, means, 1.0)).mean(-1)
    return np.where(positive, np.exp(logs), np.nan)


def _capped_mean(games: Sequence[Floats]) -> Floats:
    """Every score capped at 1, so that no game makes up for another."""
    return _mean([np.minimum(scores, 1.0) for scores in games])


def _means_of_games(games: Sequence[Floats]) -> Floats:
    return np.stack([scores.mean(-1) for scores in games], axis=-1)


# Ways to make one figure of many games: by name, as in docs/report.md.
AGGREGATES: Mapping[str, Aggregate] = MappingProxyType(
    {
        "iqm": _interquartile_mean,
        "mean": _mean,
        "median": _median,
        "geometric_mean": _geometric_mean,
        "capped_mean": _capped_mean,
    }
)


def estimate(
    scores: Mapping[str, Sequence[float]],
    aggregate: str,
    *,
    repetitions: int = REPETITIONS,
    seed: int = 0,
) -> Estimate | None:
    """One aggregate, by its name in AGGREGATES, with its percentile interval.

    The stratified bootstrap: in each repetition every game draws as many of its own runs as it has,
    with replacement and apart from the other games, so that no game can be missing from one. Values
    that are not finite are left out, and games without a value.

    None where the figure does not exist: no scores, or a geometric mean of such as are not
    positive. The interval is missing where some game has fewer than two runs.
    """
    games = _known(scores)
    if not games:
        return None
    value = float(AGGREGATES[aggregate](games))
    if not math.isfinite(value):
        return None
    runs = min(len(game) for game in games)
    if runs < 2:
        return Estimate(value, None, None, runs)
    rng = np.random.default_rng(seed)
    values = AGGREGATES[aggregate](_resample(games, repetitions, rng))
    # A repetition of a geometric mean may not exist; the interval is then of those that do.
    values = values[np.isfinite(values)]
    low, high = _interval(values) if len(values) else (value, value)
    return Estimate(value, low, high, runs)


def _resample(games: Sequence[Floats], repetitions: int, rng: np.random.Generator) -> list[Floats]:
    return [game[rng.integers(len(game), size=(repetitions, len(game)))] for game in games]


def _interval(values: Floats) -> tuple[float, float]:
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def _known(scores: Mapping[str, Sequence[float]]) -> list[Floats]:
    """The games that have scores, finite ones only."""
    arrays = [np.asarray(values, np.float64) for values in scores.values()]
    finite = [array[np.isfinite(array)] for array in arrays]
    return [array for array in finite if len(array)]


def probability_of_improvement(
    scores: Mapping[str, Sequence[float]],
    others: Mapping[str, Sequence[float]],
    *,
    repetitions: int = REPETITIONS,
    seed: int = 0,
) -> Estimate | None:
    """Probability that a run of one kind scores higher than a run of the other, mean over games.

    The Mann-Whitney statistic of each game, where ties count half, with the percentile interval of
    the stratified bootstrap over both kinds (Agarwal et al. 2021, section 4.3). Games of only one
    kind are left out: None without a common game, and no interval where some game has fewer than
    two runs.
    """
    games = [game for game in scores if len(scores[game]) and len(others.get(game, ()))]
    if not games:
        return None
    own = [np.asarray(scores[game], np.float64) for game in games]
    theirs = [np.asarray(others[game], np.float64) for game in games]
    value = float(_mean_win_rate(own, theirs))
    runs = min(len(values) for values in (*own, *theirs))
    if runs < 2:
        return Estimate(value, None, None, runs)
    rng = np.random.default_rng(seed)
    resampled = [_resample(games, repetitions, rng) for games in (own, theirs)]
    return Estimate(value, *_interval(_mean_win_rate(*resampled)), runs)


def _mean_win_rate(own: Sequence[Floats], theirs: Sequence[Floats]) -> Floats:
    """From [..., R] of each game to [...]: share of pairs that `own` wins, mean over games."""
    rates = []
    for values, other in zip(own, theirs, strict=True):
        ahead = np.sign(values[..., :, None] - other[..., None, :])
        rates.append((0.5 + 0.5 * ahead).mean((-2, -1)))
    return np.asarray(np.mean(rates, axis=0), np.float64)
