"""What recorded tests were, and what they come to beside experts, random and human play."""

import pytest

from records.recorded_tests import (
    EpochSettings,
)

PAPER = "125,000 steps every 250,000 of each game"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            (20, 20, 75_000, 0.05, "classic"),
            f"each of 20 episodes every 75,000 steps of all games (paper: {PAPER})",
        ),
        (
            (20, 4, 75_000, 0.05, "classic"),
            "each of 4 episodes every 75,000 steps of all games and of 20 episodes at the end of "
            f"the run (paper: {PAPER})",
        ),
        (
            (1, 1, 0, 0.05, "classic"),
            f"each of 1 episode at the end of the run (paper: {PAPER})",
        ),
        (
            (20, 20, 75_000, 0.2, "modern"),
            "each of 20 episodes every 75,000 steps of all games, protocol modern, epsilon 0.2 "
            f"(paper: {PAPER}, protocol classic, epsilon 0.05)",
        ),
        (
            (None, None, None, None, None),
            f"each of an unknown number of episodes (paper: {PAPER})",
        ),
    ],
)
def test_a_recorded_test_is_described_beside_the_papers(settings, expected):
    assert EpochSettings(*settings).describe() == expected
