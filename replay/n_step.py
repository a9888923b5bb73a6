"""N-step returns from consecutive stored steps: one pure function for targets and priorities."""

from __future__ import annotations

import numpy as np

from replay.types import Float32Array, Int64Array


def n_step_returns(
    rewards: Float32Array, discounts: Float32Array, lengths: Int64Array, *, gamma: float
) -> tuple[Float32Array, Float32Array]:
    """Discounted sum [B] of the next steps' rewards and the factor [B] of the bootstrap value.

    With k = lengths[b] and d the discounts (0 after an end, else 1):

        return    = sum_{i<k} gamma^i * d_0 * ... * d_{i-1} * r_i
        bootstrap = gamma^k * d_0 * ... * d_{k-1}

    so the n-step target is return + bootstrap * V(observation after k steps). The multi-step target
    of Ape-X (Horgan et al. 2018, https://arxiv.org/abs/1803.00933, section 3). Rewards and
    discounts are [B, N]; those from `lengths` (1 to N) on are ignored.
    """
    returns = np.zeros(len(rewards), np.float32)
    factors = np.ones(len(rewards), np.float32)
    for step in range(rewards.shape[1]):
        inside = step < lengths
        returns += np.where(inside, factors * rewards[:, step], 0.0)
        factors = np.where(inside, factors * np.float32(gamma) * discounts[:, step], factors)
    return returns, factors
