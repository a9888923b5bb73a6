"""What is learned: an objective turns a batch into a loss, priorities and metrics.

Two so far, over the same data, actors and replay: Actor-Mimic distils teachers into the student,
n-step double DQN learns from rewards (experts, transfer, baselines).

Shape suffixes:
    B  transitions in the batch, all games mixed, ordered by game
    A  joint action set
    G  games
    D  features of one teacher
    F  the student's features
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from learner.batch import DeviceBatch
from learner.game_means import sum_by_game
from learner.losses import (
    double_q_loss,
    feature_mimic_loss,
    importance_weights,
    policy_mimic_loss,
)
from networks.q_network import QNetwork
from networks.student import MultitaskStudent
from teachers.targets import DistanceKind, mimic_distance


@dataclass(frozen=True, slots=True)
class ObjectiveResult:
    """Of one batch."""

    loss: Tensor
    """Scalar with a gradient: the mean over the batch."""
    priorities_B: Tensor
    """Non-negative, detached."""
    metrics: dict[str, Tensor]
    """Detached float32 scalars, means over the batch."""
    game_sums: dict[str, Tensor] = field(default_factory=dict)
    """Detached float32 [G], sums over each game's transitions, unweighted; with their number as
    `rows`, if there are any."""


class Objective(Protocol):
    """What the learner minimizes."""

    num_successors: int
    """Steps after each transition that replay must deliver: n of n-step, 0 for distillation."""

    def __call__(self, batch: DeviceBatch) -> ObjectiveResult:
        """Loss of the network that the objective was built with."""
        ...

    def after_update(self, num_updates: int) -> None:
        """Called when the optimizer has made update number `num_updates`."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep besides the network."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MimicConfig:
    """The Actor-Mimic objective."""

    temperature: float = 0.05
    """tau of softmax(Q / tau), the teacher's policy, in units of clipped discounted reward
    (paper: 1)."""
    feature_weight: float = 0.0
    """beta of the feature regression (paper: 0 in the multitask experiment, 0.01 for transfer)."""
    priority: DistanceKind = "l1"
    """Distance between the two policies that prioritizes a transition."""
    importance_exponent: float = 0.0
    """How far importance weights correct for prioritized sampling; 0 not at all."""

    def __post_init__(self) -> None:
        """Refuse values that make no sense, naming them."""
        if self.temperature <= 0:
            raise ValueError(f"mimic.temperature must be positive, got {self.temperature}")
        if self.feature_weight < 0:
            raise ValueError(
                f"mimic.feature_weight must not be negative, got {self.feature_weight}"
            )
        if not 0.0 <= self.importance_exponent <= 1.0:
            raise ValueError(
                "mimic.importance_exponent must lie between 0 and 1, "
                f"got {self.importance_exponent}"
            )


class ActorMimicObjective:
    """Policy regression, and feature regression where its weight is not 0.

    (Parisotto et al. 2016, https://arxiv.org/abs/1511.06342, sections 3.1 to 3.3.) The priority is
    a distance of the two policies, which is 0 where the student already does what the teacher
    does; the cross-entropy itself never falls below the teacher's entropy.
    """

    num_successors = 0

    def __init__(
        self,
        config: MimicConfig,
        student: MultitaskStudent,
        *,
        legal_GA: Tensor,
        temperatures: Sequence[float],
    ) -> None:
        """Distil into `student`.

        Args:
            config: weights and priorities; its temperature is overridden by `temperatures`.
            student: with feature regressors if the feature weight is not 0.
            legal_GA: bool, on the student's device.
            temperatures: tau of each game, in the order of the games.
        """
        self._config = config
        self._student = student
        self._legal_GA = legal_GA
        self._temperature_G = torch.tensor(temperatures, device=legal_GA.device)

    def __call__(self, batch: DeviceBatch) -> ObjectiveResult:
        """Weighted mean of both regressions; ValueError for a batch of other games."""
        if batch.games != self._student.games:
            raise ValueError(
                f"the batch holds {', '.join(batch.games)}, but the student plays "
                f"{', '.join(self._student.games)}: masks and temperatures go by this order"
            )
        legal_BA = self._legal_GA[batch.game_index_B]
        temperature_B = self._temperature_G[batch.game_index_B]
        logits_BA, features_BF = self._student.forward_with_features(
            batch.observations_BCHW, batch.game_index_B
        )
        policy_loss_B = policy_mimic_loss(
            logits_BA, batch.teacher_logits_BA, legal_BA, temperature=temperature_B
        )
        weights_B = batch.loss_weights_B * importance_weights(
            batch.inverse_probabilities_B,
            self._config.importance_exponent,
            largest=batch.largest_inverse,
        )
        loss = (weights_B * policy_loss_B).mean()
        with torch.no_grad():
            priorities_B = mimic_distance(
                logits_BA,
                batch.teacher_logits_BA,
                legal_BA,
                temperature=temperature_B,
                kind=self._config.priority,
            )
        metrics = {"policy_loss": loss.detach(), "policy_distance": priorities_B.mean()}
        terms = {"policy_loss": policy_loss_B, "policy_distance": priorities_B}
        if self._config.feature_weight:
            feature_loss_B = self._feature_loss(features_BF, batch)
            feature_loss = (weights_B * feature_loss_B).mean()
            loss = loss + self._config.feature_weight * feature_loss
            metrics["feature_loss"] = feature_loss.detach()
            terms["feature_loss"] = feature_loss_B
        return ObjectiveResult(loss, priorities_B, metrics, sum_by_game(batch, terms))

    def _feature_loss(self, features_BF: Tensor, batch: DeviceBatch) -> Tensor:
        """[B] Each game's rows through its own regressor, against its teacher's own width."""
        losses = []
        start = 0
        for game, count in zip(batch.games, batch.game_counts, strict=True):
            rows = slice(start, start + count)
            start += count
            regressed_BD = self._student.regress_features(features_BF[rows], game)
            teacher_BD = batch.teacher_features_BD[rows, : regressed_BD.shape[1]]
            losses.append(feature_mimic_loss(regressed_BD, teacher_BD))
        return torch.cat(losses)

    def after_update(self, num_updates: int) -> None:
        """Nothing follows an update."""

    def state(self) -> dict[str, Tensor]:
        """Nothing but the student itself."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Nothing to take back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DqnConfig:
    """The n-step double DQN objective of Ape-X."""

    num_steps: int = 3
    """n of the n-step return."""
    gamma: float = 0.99
    """Discount per step."""
    reward_clip: float = 1.0
    """Rewards are clipped to plus or minus this."""
    target_period: int = 1_000
    """Updates between copies to the target network."""
    importance_exponent: float = 0.4
    """How far importance weights correct for prioritized sampling."""

    def __post_init__(self) -> None:
        """Refuse values that make no sense, naming them."""
        for name in ("num_steps", "target_period"):
            if getattr(self, name) < 1:
                raise ValueError(f"dqn.{name} must be at least 1, got {getattr(self, name)}")
        if not 0.0 <= self.gamma < 1.0:
            raise ValueError(f"dqn.gamma must lie in [0, 1), got {self.gamma}")
        if self.reward_clip <= 0:
            raise ValueError(f"dqn.reward_clip must be positive, got {self.reward_clip}")
        if not 0.0 <= self.importance_exponent <= 1.0:
            raise ValueError(
                f"dqn.importance_exponent must lie between 0 and 1, got {self.importance_exponent}"
            )


class DqnObjective:
    """n-step double Q-learning with a target network.

    (van Hasselt et al. 2016, https://arxiv.org/abs/1509.06461; as in Ape-X, Horgan et al. 2018,
    https://arxiv.org/abs/1803.00933, section 3.)
    """

    def __init__(self, config: DqnConfig, network: QNetwork, *, legal_GA: Tensor) -> None:
        """Learn `network`; `legal_GA` bool on its device."""
        self.num_successors = config.num_steps
        self._config = config
        self._network = network
        self._target: QNetwork = copy.deepcopy(network).requires_grad_(False)
        self._legal_GA = legal_GA

    def __call__(self, batch: DeviceBatch) -> ObjectiveResult:
        """Weighted mean of the Huber losses."""
        future = batch.temporal_difference
        if future is None:
            raise ValueError("value learning needs batches with successors")
        legal_BA = self._legal_GA[batch.game_index_B]
        with torch.no_grad():
            next_online_BA = self._network(future.bootstrap_observations_BCHW)
            next_target_BA = self._target(future.bootstrap_observations_BCHW)
        q_BA = self._network(batch.observations_BCHW)
        loss_B, td_error_B = double_q_loss(
            q_BA,
            batch.actions_B,
            future.returns_B,
            future.bootstrap_discounts_B,
            next_online_BA,
            next_target_BA,
            legal_BA,
        )
        weights_B = batch.loss_weights_B * importance_weights(
            batch.inverse_probabilities_B,
            self._config.importance_exponent,
            largest=batch.largest_inverse,
        )
        loss = (weights_B * loss_B).mean()
        metrics = {
            "td_loss": loss.detach(),
            "td_error": td_error_B.abs().mean(),
            "q_value": q_BA.detach().masked_fill(~legal_BA, -torch.inf).amax(1).mean(),
        }
        return ObjectiveResult(loss, td_error_B.abs(), metrics)

    def after_update(self, num_updates: int) -> None:
        """Copy the network to the target network when its period is over."""
        if num_updates % self._config.target_period == 0:
            self._target.load_state_dict(self._network.state_dict())

    def state(self) -> dict[str, Tensor]:
        """The target network."""
        return dict(self._target.state_dict())

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back the target network."""
        self._target.load_state_dict(state)
