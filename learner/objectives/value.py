"""Learning from rewards: n-step double DQN."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from learner.batch import DeviceBatch
from learner.losses import (
    double_q_loss,
    importance_weights,
)
from learner.objectives.base import ObjectiveResult
from learner.objectives.config import DqnConfig
from networks.network import MultitaskNetwork


class DqnObjective:
    """n-step double Q-learning with a target network.

    (van Hasselt et al. 2016, https://arxiv.org/abs/1509.06461; as in Ape-X, Horgan et al. 2018,
    https://arxiv.org/abs/1803.00933, section 3.)
    """

    def __init__(self, config: DqnConfig, network: MultitaskNetwork, *, legal_GA: Tensor) -> None:
        """Learn `network`; `legal_GA` bool on its device."""
        self.num_successors = config.num_steps
        self._config = config
        self._network = network
        self._target: MultitaskNetwork = copy.deepcopy(network).requires_grad_(False)
        self._legal_GA = legal_GA

    def __call__(self, batch: DeviceBatch) -> ObjectiveResult:
        """Weighted mean of the Huber losses."""
        future = batch.temporal_difference
        if future is None:
            raise ValueError("value learning needs batches with successors")
        legal_BA = self._legal_GA[batch.game_index_B]
        with torch.no_grad():
            next_online_BA = self._network(future.bootstrap_observations_BCHW, batch.game_index_B)
            next_target_BA = self._target(future.bootstrap_observations_BCHW, batch.game_index_B)
        q_BA = self._network(batch.observations_BCHW, batch.game_index_B)
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
