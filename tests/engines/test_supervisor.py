"""The pace of a run's looks."""

import pytest

from engines.supervisor import time_to_next_look
from recipes.config import RunConfig
from views.live.server import PERIOD_S


@pytest.mark.parametrize(
    ("taken_s", "left_s"), [(0.0, 1.0), (0.3, 0.7), (0.5, 0.5), (0.9, 0.5), (30.0, 0.5)]
)
def test_a_look_counts_for_the_period_but_never_takes_all_of_the_launchers_time(taken_s, left_s):
    assert time_to_next_look(1.0, taken_s=taken_s) == pytest.approx(left_s)


def test_periods_of_run_and_page_leave_half_of_the_promised_two_seconds_to_a_slow_look():
    config = RunConfig(games=("pong",), num_steps=1)
    slowest_s = 1.0
    assert (
        time_to_next_look(config.report_period_s, taken_s=slowest_s) + slowest_s + PERIOD_S <= 2.0
    )
