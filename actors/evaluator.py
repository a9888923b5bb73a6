"""Evaluation: whole episodes at a small epsilon, raw scores; students and teachers alike.

The test protocol of Actor-Mimic and Nature DQN: epsilon 0.05, a lost life does not end an episode,
unclipped rewards (Parisotto et al. 2016, https://arxiv.org/abs/1511.06342, section 5; Mnih et al.
2015). Agreement and KL are means over the states that the evaluated network visits, each counted
once: never over prioritized batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from actors.policy import EpsilonGreedy
from games.env import VectorEnv
from networks.masking import masked_argmax
from teachers.expert import Expert
from teachers.targets import mimic_distance


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """Of one network in one game."""

    returns: tuple[float, ...]
    """Raw score of each episode."""
    steps: int
    """Steps played, all episodes together."""
    agreement: float | None
    """Share of states in which network and teacher prefer the same legal action."""
    kl: float | None
    """Mean KL divergence in nats from the teacher's softened policy to the network's."""

    @property
    def mean(self) -> float:
        """Of the returns."""
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        """Of the returns (population), not of their mean."""
        return float(np.std(self.returns))

    @property
    def max(self) -> float:
        """Of the returns."""
        return float(np.max(self.returns))


class _TeacherComparison:
    """Running sums of agreement and KL."""

    def __init__(self, teacher: Expert, temperature: float) -> None:
        self._teacher = teacher
        self._legal_A = teacher.legal_A[None]
        self._temperature = temperature
        self._agreed = 0
        self._kl = 0.0
        self._states = 0

    def add(self, observations: torch.Tensor, scores_BA: torch.Tensor, seen: torch.Tensor) -> None:
        labels = self._teacher.label(observations)
        same = masked_argmax(scores_BA, self._legal_A) == masked_argmax(
            labels.logits_BA, self._legal_A
        )
        kl_B = mimic_distance(
            scores_BA, labels.logits_BA, self._legal_A, temperature=self._temperature, kind="kl"
        )
        self._agreed += int(same[seen].sum())
        self._kl += float(kl_B[seen].sum())
        self._states += int(seen.sum())

    @property
    def agreement(self) -> float:
        return self._agreed / max(1, self._states)

    @property
    def kl(self) -> float:
        return self._kl / max(1, self._states)


def evaluate(
    network: nn.Module,
    env: VectorEnv,
    *,
    num_episodes: int,
    epsilon: float,
    seed: int,
    teacher: Expert | None = None,
    temperature: float = 1.0,
) -> EvaluationResult:
    """Play `num_episodes` whole episodes.

    Each environment plays its own fixed number of episodes: taking the first ones to end over all
    environments would favour short episodes.

    Args:
        network: observations [N, S*C, H, W] to scores [N, A].
        env: its vector; when it is wider than `num_episodes`, the rest idles.
        num_episodes: at least 1.
        epsilon: probability of a random legal action.
        seed: of the random actions.
        teacher: whom to compare with; None leaves agreement and KL out.
        temperature: of the teacher's policy in the KL.
    """
    if num_episodes < 1:
        raise ValueError(f"an evaluation needs at least one episode, got {num_episodes}")
    policy = EpsilonGreedy(env.spec.legal_mask(), np.random.default_rng(seed))
    epsilons = np.full(env.num_envs, epsilon, np.float32)
    comparison = _TeacherComparison(teacher, temperature) if teacher else None
    left = _episodes_per_env(num_episodes, env.num_envs)
    running = np.zeros(env.num_envs)
    returns: list[float] = []
    steps = 0
    observations = env.reset()
    restarting = np.zeros(env.num_envs, np.bool_)
    while left.any():
        seen = (left > 0) & ~restarting
        tensor = torch.from_numpy(observations)
        with torch.inference_mode():
            scores_BA = network(tensor)
        if comparison:
            comparison.add(tensor, scores_BA, torch.from_numpy(seen))
        step = env.step(policy(scores_BA.numpy(), epsilons))
        running += step.rewards
        steps += int(np.count_nonzero(seen))
        ended = step.terminated | step.truncated
        returns.extend(running[ended & seen].tolist())
        left[ended & seen] -= 1
        running[ended] = 0.0
        observations, restarting = step.observations, ended
    return EvaluationResult(
        returns=tuple(returns),
        steps=steps,
        agreement=comparison.agreement if comparison else None,
        kl=comparison.kl if comparison else None,
    )


def _episodes_per_env(num_episodes: int, num_envs: int) -> NDArray[np.int64]:
    counts = np.full(num_envs, num_episodes // num_envs)
    counts[: num_episodes % num_envs] += 1
    return counts
