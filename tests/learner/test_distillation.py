"""Schedules of the weight of distillation, written out, and what they refuse."""

import pytest

from learner.distillation import DistillationSchedule, gap_to_teacher, steps_of
from learner.objectives.config import DistillationConfig


def schedule(**options) -> DistillationSchedule:
    return DistillationSchedule(DistillationConfig(**options))


def values(found: DistillationSchedule, *steps: float) -> list[float]:
    return [found.at(step) for step in steps]


def test_a_linear_weight_falls_to_its_floor_and_stays_there():
    found = schedule(schedule="linear", weight=1.0, floor=0.2, steps=100)
    assert values(found, 0, 25, 50, 100, 500) == pytest.approx([1.0, 0.8, 0.6, 0.2, 0.2])


def test_an_exponential_weight_halves_in_so_many_steps_down_to_its_floor():
    found = schedule(schedule="exponential", weight=2.0, floor=0.3, steps=100)
    assert values(found, 0, 50, 100, 200, 300, 10**7) == pytest.approx(
        [2.0, 2.0 * 0.5**0.5, 1.0, 0.5, 0.3, 0.3]
    )


def test_a_weight_that_follows_the_gap_is_whole_until_a_score_is_known():
    found = schedule(schedule="gap", weight=3.0, floor=0.1)
    assert found.at(0) == 3.0
    assert [found.at(0, gap=gap) for gap in (1.0, 0.5, 0.0)] == [3.0, 1.5, 0.1]


@pytest.mark.parametrize(
    ("student", "teacher", "random", "gap"),
    [
        (50.0, 100.0, 0.0, 0.5),
        (100.0, 100.0, 0.0, 0.0),
        (150.0, 100.0, 0.0, 0.0),
        # From -21 to 21, where 1 - student / teacher would be above 1.
        (-21.0, 21.0, -21.0, 1.0),
        (0.0, 21.0, -21.0, 0.5),
        (-25.0, 21.0, -21.0, 1.0),
        (30.0, 100.0, None, 0.7),
        # A teacher that is no better than random play has nothing to teach.
        (0.0, 5.0, 5.0, 0.0),
    ],
)
def test_the_gap_is_the_share_of_the_teachers_score_that_is_lacking(student, teacher, random, gap):
    assert gap_to_teacher(student, teacher, random=random) == pytest.approx(gap)


def test_steps_behind_updates_do_not_depend_on_the_batch_size():
    # Half as many updates of twice the size stand for the same steps.
    assert steps_of(100, batch_size=64, samples_per_insert=4.0) == 1_600
    assert steps_of(50, batch_size=128, samples_per_insert=4.0) == 1_600
