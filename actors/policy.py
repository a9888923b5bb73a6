"""Exploration: epsilon-greedy over legal actions, and how epsilon is spread over environments."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def epsilon_ladder(
    num_epsilons: int, *, base: float = 0.4, exponent: float = 7.0
) -> NDArray[np.float32]:
    """Exploration rates of Ape-X, from the most exploring environment to the least.

        epsilon_i = base^(1 + exponent * i / (N - 1))

    (Horgan et al. 2018, https://arxiv.org/abs/1803.00933, section 4.) A ladder of one rung is
    its middle.
    """
    if num_epsilons < 1:
        raise ValueError(f"an epsilon ladder needs at least one rung, got {num_epsilons}")
    if num_epsilons == 1:
        position = np.array([0.5])
    else:
        position = np.arange(num_epsilons) / (num_epsilons - 1)
    return (base ** (1.0 + exponent * position)).astype(np.float32)


def annealed(epsilons: NDArray[np.float32], *, step: int, anneal_steps: int) -> NDArray[np.float32]:
    """Exploration rates that fall linearly from 1 to `epsilons` over the first `anneal_steps`."""
    if step >= anneal_steps:
        return epsilons
    return (1.0 + (epsilons - 1.0) * (step / anneal_steps)).astype(np.float32)


class EpsilonGreedy:
    """Draws each environment's action: with probability epsilon any legal one, else the best."""

    def __init__(self, legal: NDArray[np.bool_], rng: np.random.Generator) -> None:
        """Play inside `legal`, bool [A]."""
        self._legal_actions = np.flatnonzero(legal)
        self._rng = rng

    def __call__(
        self, scores: NDArray[np.float32], epsilons: NDArray[np.float32]
    ) -> NDArray[np.int64]:
        """Joint action ids [N] for scores [N, A] and exploration rates [N]."""
        best = scores[:, self._legal_actions].argmax(axis=1)
        draws = self._rng.integers(len(self._legal_actions), size=len(scores))
        explore = self._rng.random(len(scores)) < epsilons
        actions: NDArray[np.int64] = self._legal_actions[np.where(explore, draws, best)]
        return actions
