"""How many deaths a run takes before it gives up."""

import pytest

from engines.on_ray.ray_run import Deaths


class Clock:
    def __init__(self):
        self.seconds = 100.0

    def __call__(self):
        return self.seconds


def die(times, *, every_s, **options):
    """Deaths at regular intervals; ValueError if they are too many."""
    clock = Clock()
    deaths = Deaths(clock)
    for _ in range(times):
        deaths.count("an actor died", **options)
        clock.seconds += every_s


def test_ten_deaths_within_a_minute_end_the_run_with_the_last_cause():
    die(9, every_s=2.0)
    with pytest.raises(ValueError, match="died 10 times within a minute; the last one: an actor"):
        die(10, every_s=2.0)


def test_deaths_that_are_further_apart_do_not():
    die(100, every_s=7.0)


def test_those_of_one_second_are_one():
    die(100, every_s=0.005)


def test_a_shortage_of_memory_for_twelve_seconds_does_not_end_a_run():
    die(48, every_s=0.25, is_for_memory=True)


def test_one_that_lasts_a_minute_does_with_what_to_do():
    with pytest.raises(ValueError, match=r"the last one: an actor died; use fewer --actors"):
        die(240, every_s=0.25, is_for_memory=True)
