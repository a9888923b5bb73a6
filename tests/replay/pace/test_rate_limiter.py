"""The limiter's arithmetic by hand, and that it can never lock both sides."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.pace.pacing import SamplesPerInsertLimiter


def test_only_inserting_is_allowed_before_the_start_and_nothing_counts():
    limiter = SamplesPerInsertLimiter(2.0, 10.0)
    assert limiter.can_insert(1_000_000)
    assert not limiter.can_sample(1)
    limiter.count_insert(1_000)
    assert limiter.error == 0.0
    limiter.start()
    assert limiter.error == 0.0


def test_both_edges_of_the_band_by_hand():
    limiter = SamplesPerInsertLimiter(2.0, 10.0)
    limiter.start()
    assert limiter.can_insert(5)  # 5 * 2 = 10, just on the upper edge.
    assert not limiter.can_insert(6)
    limiter.count_insert(5)
    assert limiter.error == 10.0
    assert not limiter.can_insert(1)
    assert limiter.can_sample(20)  # 10 - 20 = -10, just on the lower edge.
    assert not limiter.can_sample(21)
    limiter.count_sample(20)
    assert limiter.error == -10.0
    assert not limiter.can_sample(1)
    assert limiter.can_insert(10)  # -10 + 20 = 10.
    assert not limiter.can_insert(11)


def test_fraction_of_a_sample_per_insert():
    limiter = SamplesPerInsertLimiter(0.25, 4.0)
    limiter.start()
    limiter.count_insert(8)
    assert limiter.error == 2.0
    assert limiter.can_sample(6)
    assert not limiter.can_sample(7)


def test_band_too_narrow_is_refused_with_the_numbers_that_are_needed():
    limiter = SamplesPerInsertLimiter(2.0, 100.0)
    limiter.check_can_progress(insert_size=36, sample_size=128)  # 36 * 2 + 128 = 200.
    with pytest.raises(
        ValueError,
        match=r"inserting 37 transitions at 2 samples per insert and sampling 128 at once needs a "
        r"band of 202 samples, but 2 \* error_buffer is 200; raise error_buffer to at least 101",
    ):
        limiter.check_can_progress(insert_size=37, sample_size=128)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    eighths_per_insert=st.integers(1, 64),
    insert_size=st.integers(1, 40),
    sample_size=st.integers(1, 40),
    spare=st.sampled_from([0.0, 0.5, 20.0]),
    choices=st.lists(st.booleans(), min_size=30, max_size=60),
)
def test_error_stays_in_the_band_and_one_side_can_always_go_on(
    eighths_per_insert, insert_size, sample_size, spare, choices
):
    ratio = eighths_per_insert / 8
    buffer = (insert_size * ratio + sample_size) / 2 + spare
    limiter = SamplesPerInsertLimiter(ratio, buffer)
    limiter.check_can_progress(insert_size=insert_size, sample_size=sample_size)
    limiter.start()
    for prefers_insert in choices:
        can_insert, can_sample = limiter.can_insert(insert_size), limiter.can_sample(sample_size)
        assert can_insert or can_sample
        if can_insert and (prefers_insert or not can_sample):
            limiter.count_insert(insert_size)
        else:
            limiter.count_sample(sample_size)
        assert -buffer <= limiter.error <= buffer
