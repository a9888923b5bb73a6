"""What recorded tests were, and what they come to beside experts, random and human play."""

import pytest
from recorded_runs import make_run

from records.recorded_tests import (
    EpochSettings,
    collect_tests,
    expert_ratio,
    over_games,
)
from records.run_record import read_run

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


def test_a_game_without_tests_has_no_figures_and_none_over_games(tmp_path):
    run = make_run(tmp_path / "run", num_tests=0, num_looks=1, with_student=False)
    tests = collect_tests([read_run(run.path)], "pong")
    row = tests.as_row()
    assert (row["mean"], row["best"], row["tests"], row["runs"]) == (None, None, 0, 0)
    assert set(over_games({"pong": tests}).values()) == {None}


@pytest.mark.parametrize(
    ("score", "expert", "expected"),
    [(5.0, 10.0, 0.5), (-5.0, 10.0, -0.5), (5.0, 0.0, None), (5.0, -10.0, None), (5.0, None, None)],
)
def test_a_percentage_needs_an_expert_whose_score_is_positive(score, expert, expected):
    assert expert_ratio(score, expert) == expected
