"""Evaluation: whole episodes at a small epsilon, raw scores; students and teachers alike.

The test protocol of Actor-Mimic and Nature DQN: epsilon 0.05, a lost life does not end an episode,
unclipped rewards (Parisotto et al. 2016, https://arxiv.org/abs/1511.06342, section 5; Mnih et al.
2015). Agreement and KL are means over the states that the evaluated network visits, each counted
once: never over prioritized batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from actors.policy import EpsilonGreedy
from games.env import VectorEnv
from networks.acting import Acting
from networks.masking import masked_argmax
from teachers.expert import Expert
from teachers.targets import mimic_distance


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """Scores of one network in one game, and how it compares with the teacher."""

    # Raw score of each episode.
    returns: tuple[float, ...]
    # Steps played, all episodes together.
    steps: int
    # Share of states in which network and teacher prefer the same legal action.
    agreement: float | None
    # Mean KL divergence in nats from the teacher's softened policy to the network's.
    kl: float | None
    # False where no episode came to its end, so that `returns` are of unfinished ones.
    finished: bool = True

    @property
    def mean(self) -> float:
        """Mean of the returns."""
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        """Standard deviation of the returns (population), not of their mean."""
        return float(np.std(self.returns))

    @property
    def max(self) -> float:
        """Greatest of the returns."""
        return float(np.max(self.returns))


class _TeacherComparison:
    """Running sums of agreement and KL."""

    def __init__(self, teacher: Expert, temperature: float, student_temperature: float) -> None:
        self._teacher = teacher
        self._legal_A = teacher.legal_A[None]
        self._temperature = temperature
        self._student_temperature = student_temperature
        self._agreed = 0
        self._kl = 0.0
        self._states = 0

    def add(self, observations: torch.Tensor, scores_BA: torch.Tensor, seen: torch.Tensor) -> None:
        labels = self._teacher.label(observations)
        same = masked_argmax(scores_BA, self._legal_A) == masked_argmax(
            labels.logits_BA, self._legal_A
        )
        kl_B = mimic_distance(
            scores_BA / self._student_temperature,
            labels.logits_BA,
            self._legal_A,
            temperature=self._temperature,
            kind="kl",
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


def _compare_with(
    teacher: Expert | None, temperature: float, student_temperature: float
) -> _TeacherComparison | None:
    return _TeacherComparison(teacher, temperature, student_temperature) if teacher else None


def evaluate(
    network: nn.Module,
    env: VectorEnv,
    *,
    num_episodes: int,
    epsilon: float,
    seed: int,
    teacher: Expert | None = None,
    temperature: float = 1.0,
    student_temperature: float = 1.0,
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
        student_temperature: of the network's own policy in the KL; 1 for one whose scores are
            logits.
    """
    if num_episodes < 1:
        raise ValueError(f"an evaluation needs at least one episode, got {num_episodes}")
    comparison = _compare_with(teacher, temperature, student_temperature)
    play = _Play(network, env, epsilon=epsilon, seed=seed, comparison=comparison)
    left = _share_out(num_episodes, env.num_envs)
    while left.any():
        _, ended = play.step(left > 0)
        left -= ended
    return play.result(play.returns)


def evaluate_epoch(
    network: nn.Module,
    env: VectorEnv,
    *,
    num_steps: int,
    epsilon: float,
    seed: int,
    teacher: Expert | None = None,
    temperature: float = 1.0,
    student_temperature: float = 1.0,
) -> EvaluationResult:
    """Play `num_steps` steps and score the episodes that ended in them: a test epoch of the paper.

    As in the code released with Actor-Mimic (train/train_atari_agent.lua): what is unfinished at
    the end does not count, unless nothing has been finished; then it is all there is. Dropping
    unfinished episodes favours short ones, the more so the fewer steps an environment plays: the
    paper plays one environment for 125,000 steps.

    Args:
        network: observations [N, S*C, H, W] to scores [N, A].
        env: its vector; each environment plays an equal part of the steps.
        num_steps: at least one for each environment; steps that restart a game are not counted.
        epsilon: probability of a random legal action.
        seed: of the random actions.
        teacher: whom to compare with; None leaves agreement and KL out.
        temperature: of the teacher's policy in the KL.
        student_temperature: of the network's own policy in the KL; 1 for one whose scores are
            logits.
    """
    if num_steps < env.num_envs:
        raise ValueError(
            f"a test of {num_steps} steps is too short for {env.num_envs} environments"
        )
    comparison = _compare_with(teacher, temperature, student_temperature)
    play = _Play(network, env, epsilon=epsilon, seed=seed, comparison=comparison)
    left = _share_out(num_steps, env.num_envs)
    while left.any():
        played, _ = play.step(left > 0)
        left -= played
    if play.returns:
        return play.result(play.returns)
    return play.result(play.unfinished, finished=False)


class _Play:
    """A network that plays a vector of environments; keeps scores and the comparison."""

    def __init__(
        self,
        network: nn.Module,
        env: VectorEnv,
        *,
        epsilon: float,
        seed: int,
        comparison: _TeacherComparison | None,
    ) -> None:
        self._act = Acting(network)
        self._env = env
        self._policy = EpsilonGreedy(env.spec.legal_mask(), np.random.default_rng(seed))
        self._epsilons = np.full(env.num_envs, epsilon, np.float32)
        self._comparison = comparison
        self._running = np.zeros(env.num_envs)
        self._steps = 0
        self._observations = env.reset()
        self._is_first = np.ones(env.num_envs, np.bool_)
        self.returns: list[float] = []

    @property
    def unfinished(self) -> list[float]:
        """Scores so far of the episodes under way."""
        scores: list[float] = self._running.tolist()
        return scores

    def step(self, counted: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Step all environments; what those outside `counted` do leaves no trace.

        Returns:
            Bool [N] each: which of the counted ones played, and which of them ended an episode.
        """
        tensor = torch.from_numpy(self._observations)
        with torch.inference_mode():
            scores_BA = self._act(tensor, self._is_first)
        step = self._env.step(self._policy(scores_BA.numpy(), self._epsilons).actions)
        # Not known before: a protocol may act in the agent's place, too.
        seen = counted & ~step.restarted
        if self._comparison:
            self._comparison.add(tensor, scores_BA, torch.from_numpy(seen))
        self._running += step.rewards
        self._steps += int(np.count_nonzero(seen))
        over = step.terminated | step.truncated
        ended = over & seen
        self.returns.extend(self._running[ended].tolist())
        self._running[over] = 0.0
        self._observations = step.observations
        self._is_first = step.restarted
        return seen, ended

    def result(self, returns: Sequence[float], *, finished: bool = True) -> EvaluationResult:
        """What is known of the play, scored by these returns."""
        return EvaluationResult(
            returns=tuple(returns),
            steps=self._steps,
            agreement=self._comparison.agreement if self._comparison else None,
            kl=self._comparison.kl if self._comparison else None,
            finished=finished,
        )


def _share_out(total: int, num_envs: int) -> NDArray[np.int64]:
    """[N] episodes or steps of each environment."""
    counts = np.full(num_envs, total // num_envs)
    counts[: total % num_envs] += 1
    return counts
