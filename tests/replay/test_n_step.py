"""N-step returns against a loop written from the formula."""

from __future__ import annotations

import numpy as np
import pytest

from replay.n_step import n_step_returns


def slow_n_step_returns(rewards, discounts, lengths, gamma):
    """R = r_0 + gamma r_1 + ... as in Ape-X, one transition and one step at a time."""
    returns, bootstraps = [], []
    for row, length in enumerate(lengths):
        total, factor = 0.0, 1.0
        for step in range(length):
            total += factor * float(rewards[row, step])
            factor *= gamma * float(discounts[row, step])
        returns.append(total)
        bootstraps.append(factor)
    return returns, bootstraps


@pytest.mark.parametrize("num_steps", [1, 3, 5])
@pytest.mark.parametrize("gamma", [0.99, 0.5, 0.0])
def test_returns_are_those_of_a_loop_over_the_formula(num_steps, gamma):
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(50, num_steps)).astype(np.float32)
    discounts = (rng.random((50, num_steps)) < 0.8).astype(np.float32)
    lengths = rng.integers(1, num_steps + 1, 50)
    returns, bootstraps = n_step_returns(rewards, discounts, lengths, gamma=gamma)
    expected_returns, expected_bootstraps = slow_n_step_returns(rewards, discounts, lengths, gamma)
    np.testing.assert_allclose(returns, expected_returns, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(bootstraps, expected_bootstraps, rtol=1e-5)
    assert returns.dtype == bootstraps.dtype == np.float32
