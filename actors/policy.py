"""Acting: epsilon-greedy or by drawing from the policy, and how epsilon is spread over actors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

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


@dataclass(frozen=True, slots=True)
class Drawn:
    """Actions that were drawn, and how likely each of them was."""

    # [N] Joint action ids.
    actions: NDArray[np.int64]
    # [N] Exact probability with which the behaviour, exploration included, takes the action.
    probabilities: NDArray[np.float32]


class Behaviour(Protocol):
    """How an actor turns its network's scores into actions."""

    def __call__(self, scores: NDArray[np.float32], epsilons: NDArray[np.float32]) -> Drawn:
        """Draw legal actions for scores [N, A] and exploration rates [N]."""
        ...


class EpsilonGreedy:
    """Draws each environment's action: with probability epsilon any legal one, else the best."""

    def __init__(self, legal: NDArray[np.bool_], rng: np.random.Generator) -> None:
        """Play inside `legal`, bool [A]."""
        self._legal_actions = np.flatnonzero(legal)
        self._rng = rng

    def __call__(self, scores: NDArray[np.float32], epsilons: NDArray[np.float32]) -> Drawn:
        """Draw for Q-values or logits; a tie goes to the lowest action id.

        The best action is also one of those that exploration may draw, so its probability is
        1 - epsilon + epsilon / legal actions.
        """
        best = scores[:, self._legal_actions].argmax(axis=1)
        draws = self._rng.integers(len(self._legal_actions), size=len(scores))
        explore = self._rng.random(len(scores)) < epsilons
        chosen = np.where(explore, draws, best)
        probabilities = epsilons / len(self._legal_actions) + np.where(
            chosen == best, 1.0 - epsilons, 0.0
        )
        return Drawn(self._legal_actions[chosen], probabilities.astype(np.float32))


class SoftmaxPolicy:
    """Draws each environment's action from the softmax of its logits over legal actions."""

    def __init__(self, legal: NDArray[np.bool_], rng: np.random.Generator) -> None:
        """Play inside `legal`, bool [A]."""
        self._legal_actions = np.flatnonzero(legal)
        self._rng = rng

    def __call__(self, scores: NDArray[np.float32], epsilons: NDArray[np.float32]) -> Drawn:
        """Draw for logits; with probability epsilon any legal action, which is folded in.

        mu(a) = (1 - epsilon) softmax(a) + epsilon / legal actions
        """
        # In double precision, so that the probabilities that are stored are those of the draws.
        logits = scores[:, self._legal_actions].astype(np.float64)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        policy = powers / powers.sum(axis=1, keepdims=True)
        rates = epsilons.astype(np.float64)[:, None]
        policy = (1.0 - rates) * policy + rates / len(self._legal_actions)
        thresholds = np.cumsum(policy, axis=1)
        # Drawn below the last threshold: rounding must not lead behind the last action.
        draws = self._rng.random((len(scores), 1)) * thresholds[:, -1:]
        chosen = (draws >= thresholds).sum(axis=1)
        probabilities = np.take_along_axis(policy, chosen[:, None], axis=1)[:, 0]
        return Drawn(self._legal_actions[chosen], probabilities.astype(np.float32))
