"""Figures over games and seeds, worked out by hand.

Interquartile mean (Agarwal et al. 2021, section 4.3): discard the lowest and the highest 25 % of
the scores of all runs and games together, and take the mean of the rest. Where a quarter is no
whole number it is rounded down, as scipy.stats.trim_mean(x, 0.25) does in the authors' rliable.

Stratified bootstrap (section 4.1): with M games and N runs of each, draw N runs with replacement
for each game by itself; the interval is that of the 2.5th and 97.5th percentile over repetitions.
"""

import itertools
import math

import numpy as np
import pytest

from records.run_statistics import (
    AGGREGATES,
    estimate,
    interquartile_mean,
    probability_of_improvement,
    summarize_epochs,
)

# Student / expert of the paper's eight games, means, as derived from its first table.
PAPER = {
    "atlantis": 165065 / 57279,
    "boxing": 76.264 / 81.47,
    "breakout": 347.01 / 273.15,
    "crazy_climber": 57070 / 96189,
    "enduro": 499.3 / 457.60,
    "pong": 15.275 / 19.581,
    "seaquest": 1177.3 / 4278.9,
    "space_invaders": 1142.4 / 1669.2,
}


def value_of(scores, aggregate):
    found = estimate(scores, aggregate)
    assert found is not None
    return found.value


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.0], 5.0),
        ([1.0, 2.0, 6.0], 3.0),  # A quarter of three is less than one: nothing is cut off.
        ([100.0, 2.0, 4.0, -7.0], 3.0),
        ([0.0, 1.0, 2.0, 3.0, 90.0], 2.0),
        ([8.0, 1.0, 7.0, 2.0, 6.0, 3.0, 5.0, 1000.0], (3 + 5 + 6 + 7) / 4),
    ],
)
def test_the_interquartile_mean_is_that_of_the_middle_half(values, expected):
    assert interquartile_mean(values) == pytest.approx(expected)


def test_the_interquartile_mean_pools_games_and_runs():
    scores = {"pong": [0.0, 1.0], "boxing": [2.0, 3.0], "qbert": [4.0, 5.0], "tennis": [6.0, 90.0]}
    assert value_of(scores, "iqm") == pytest.approx((2 + 3 + 4 + 5) / 4)


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [("mean", 1.064), ("geometric_mean", 0.869), ("median", 0.858), ("capped_mean", 0.784)],
)
def test_aggregates_of_the_papers_table(aggregate, expected):
    assert value_of({k: [v] for k, v in PAPER.items()}, aggregate) == pytest.approx(
        expected, abs=6e-4
    )


@pytest.mark.parametrize("scores", [{}, {"pong": []}, {"pong": [math.nan], "boxing": [math.inf]}])
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_without_scores_there_is_no_figure(scores, aggregate):
    assert estimate(scores, aggregate) is None


def test_the_interval_is_that_of_all_possible_draws():
    """Two games of three runs have 27 x 27 equally likely draws: the interval can be counted."""
    scores = {"pong": [0.0, 3.0, 9.0], "boxing": [10.0, 40.0, 130.0]}

    def means(values):
        return [sum(draw) / 3 for draw in itertools.product(values, repeat=3)]

    exact = [(a + b) / 2 for a, b in itertools.product(means([0, 3, 9]), means([10, 40, 130]))]
    low, high = np.percentile(exact, [2.5, 97.5])
    found = estimate(scores, "mean", repetitions=200_000)
    assert found.runs == 3
    assert found.low == pytest.approx(low, abs=1.0)
    assert found.high == pytest.approx(high, abs=1.0)


def test_games_are_drawn_apart_from_each_other():
    """Runs that go up in one game as they go down in the other must not cancel out."""
    found = estimate({"pong": [0.0, 1.0], "boxing": [1.0, 0.0]}, "mean")
    assert (found.low, found.high) == (0.0, 1.0)


def test_the_papers_mean_is_of_the_last_ten_tests_and_its_maximum_of_all():
    found = summarize_epochs([100.0, *map(float, range(20))])
    assert (found.mean, found.best_of_last, found.best) == (14.5, 19.0, 100.0)
    assert (found.num_averaged, found.num_tests) == (10, 21)


def test_probability_of_improvement_counts_pairs_and_halves_ties() -> None:
    found = probability_of_improvement({"a": [1.0, 2.0], "b": [5.0]}, {"a": [1.0, 3.0], "b": [4.0]})
    assert found is not None
    # Game a: of four pairs one tie and one win; game b: one win.
    assert found.value == pytest.approx((1.5 / 4 + 1.0) / 2)
    assert found.low is None


def test_probability_of_improvement_is_one_half_against_itself_with_an_interval_around_it() -> None:
    scores = {"a": [1.0, 2.0, 3.0], "b": [5.0, 6.0, 9.0]}
    found = probability_of_improvement(scores, scores)
    assert found is not None
    assert found.value == pytest.approx(0.5)
    assert found.low is not None
    assert found.high is not None
    assert 0.0 <= found.low < 0.5 < found.high <= 1.0
    assert probability_of_improvement(scores, {"c": [1.0]}) is None
