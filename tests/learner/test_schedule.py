import pytest

from learner.schedule import LearningRate


@pytest.mark.parametrize(
    ("num_updates", "expected"), [(0, 0.2), (600, 0.2), (700, 0.2), (850, 0.1), (1000, 0.0)]
)
def test_the_rate_is_constant_then_falls_to_zero(num_updates, expected):
    rate = LearningRate(start=0.2, num_updates=1000, decay_share=0.3)
    assert rate.at(num_updates) == pytest.approx(expected)


def test_without_a_decay_the_rate_stays_the_same_to_the_last_update():
    rate = LearningRate(start=0.2, num_updates=1000, decay_share=0.0)
    assert {rate.at(update) for update in (0, 500, 1000, 2000)} == {0.2}


def test_the_rate_is_never_negative_beyond_the_end():
    assert LearningRate(start=0.2, num_updates=1000, decay_share=1.0).at(1500) == 0.0
