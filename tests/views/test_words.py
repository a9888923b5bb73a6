"""Figures as people read them."""

import pytest

from views.words import duration, percent, plural, rate, score, spread


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (12345.6, "12,346"), (-20.7, "-20.7"), (0.53, "0.53"), (0.0, "0.0")],
)
def test_scores_have_the_decimals_that_matter(value, text):
    assert score(value) == text


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [
        (9.6, 0.6, "9.6 +- 0.6"), (0.53, 0.7, "0.53 +- 0.70"), (29253.0, 8543.2, "29,253 +- 8,543"),
        (3.0, None, "3.0"), (None, None, "-"),
    ],
)  # fmt: skip
def test_a_spread_has_the_decimals_of_its_mean(mean, std, text):
    assert spread(mean, std) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.0, "0"), (0.28, "0.28"), (5.32, "5.3"), (1234.5, "1,234")]
)
def test_what_is_slow_does_not_seem_to_stand_still(value, text):
    assert rate(value) == text


def test_a_share_just_below_zero_is_no_minus_zero():
    assert percent(-0.001) == "0%"
    assert percent(-0.3) == "-30%"


def test_durations_and_counts_are_written_out():
    assert duration(3723.4) == "1:02:03"
    assert (plural(1, "run"), plural(2, "run")) == ("1 run", "2 runs")
