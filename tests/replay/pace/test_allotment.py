"""Shares of the batch: exact, yielded and balanced again."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.pace.allotment import BatchAllotment

PLENTY = 1_000_000

SHARES = st.lists(st.floats(0.05, 10.0), min_size=1, max_size=9)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(shares=SHARES, batch_size=st.integers(1, 40))
def test_every_game_gets_its_share_in_the_long_run_and_every_batch_is_full(shares, batch_size):
    allotment = BatchAllotment(shares, batch_size)
    exact = np.array(shares) / sum(shares) * batch_size
    given_out = np.zeros(len(shares))
    for batch in range(1, 60):
        counts = allotment.allot([PLENTY] * len(shares))
        assert sum(counts) == batch_size
        assert np.all(np.abs(counts - exact) < 1 + 1e-9)
        assert np.all(np.array(counts) <= allotment.most_wanted)
        given_out += counts
        assert np.all(np.abs(given_out - batch * exact) < 2)
        allotment.advance()


def test_game_short_of_data_yields_evenly_to_the_others():
    allotment = BatchAllotment([1.0, 1.0, 1.0], 12)
    assert allotment.allot([2, PLENTY, PLENTY]) == [2, 5, 5]
    assert allotment.allot([0, 5, PLENTY]) == [0, 5, 7]
    assert allotment.allot([1, 4, 7]) == [1, 4, 7]
    assert allotment.allot([1, PLENTY, PLENTY]) == [1, 6, 5]


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(shares=SHARES, batch_size=st.integers(1, 40), data=st.data())
def test_batch_is_full_and_nothing_is_drawn_beyond_what_is_allowed(shares, batch_size, data):
    allowed = data.draw(st.lists(st.integers(0, 40), min_size=len(shares), max_size=len(shares)))
    allowed[data.draw(st.integers(0, len(shares) - 1))] += batch_size
    allotment = BatchAllotment(shares, batch_size)
    counts = allotment.allot(allowed)
    assert sum(counts) == batch_size
    assert np.all(np.array(counts) <= allowed)
    assert np.all(counts >= np.minimum(allotment.wanted, allowed))


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    shares_and_counts=st.lists(
        st.tuples(st.floats(0.05, 10.0), st.integers(0, 20)), min_size=1, max_size=9
    ).filter(lambda pairs: any(count for _, count in pairs))
)
def test_loss_weights_restore_the_balance_of_those_present_and_have_mean_1(shares_and_counts):
    shares, counts = (np.array(column) for column in zip(*shares_and_counts, strict=True))
    batch_size = int(counts.sum())
    weights = np.array(BatchAllotment(shares.tolist(), batch_size).loss_weights(counts.tolist()))
    weight_of_game = weights * counts
    present = counts > 0
    np.testing.assert_allclose(
        weight_of_game[present] / batch_size, shares[present] / shares[present].sum(), rtol=1e-12
    )
    np.testing.assert_allclose(np.repeat(weights, counts).mean(), 1.0, rtol=1e-12)


def test_allotment_goes_on_from_what_another_one_owes():
    first, second = BatchAllotment([1.0, 1.0, 1.0], 4), BatchAllotment([1.0, 1.0, 1.0], 4)
    first.advance()
    second.owed = first.owed
    for _ in range(4):
        assert second.wanted == first.wanted
        first.advance()
        second.advance()
