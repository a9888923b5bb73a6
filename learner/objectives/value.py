"""Learning from rewards: n-step double DQN, of means or of quantiles."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from learner.batch import DeviceBatch, TemporalDifferenceBatch
from learner.game_means import sum_by_game
from learner.losses import double_q_loss, importance_weights, quantile_double_q_loss
from learner.objectives.base import ObjectiveResult
from learner.objectives.config import DqnConfig
from networks.network import MultitaskNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporalDifferenceTerms:
    """One batch's losses from rewards, before they are averaged."""

    # With a gradient.
    loss_B: Tensor
    # Signed TD errors without a gradient.
    error_B: Tensor
    # The network's Q-values of the batch, with a gradient.
    q_BA: Tensor
    # What each loss counts in the mean.
    weights_B: Tensor
    # Detached float32 scalars.
    metrics: dict[str, Tensor]


class DqnObjective:
    """n-step double Q-learning with a target network.

    (van Hasselt et al. 2016, https://arxiv.org/abs/1509.06461; as in Ape-X, Horgan et al. 2018,
    https://arxiv.org/abs/1803.00933, section 3.) With quantiles the loss is that of QR-DQN (Dabney
    et al. 2018, https://arxiv.org/abs/1710.10044); actions and priorities go by the means.
    """

    def __init__(self, config: DqnConfig, network: MultitaskNetwork, *, legal_GA: Tensor) -> None:
        """Learn `network`, which has the configured quantiles; `legal_GA` bool on its device."""
        if network.num_quantiles != config.quantiles:
            raise ValueError(
                f"dqn.quantiles is {config.quantiles}, but the network has {network.num_quantiles}"
            )
        self.num_successors = config.num_steps
        self._config = config
        self._network = network
        self._target: MultitaskNetwork = copy.deepcopy(network).requires_grad_(False)
        self._legal_GA = legal_GA

    def __call__(self, batch: DeviceBatch) -> ObjectiveResult:
        """Weighted mean of the losses; the priority is the size of the TD error."""
        terms = self.terms(batch)
        loss = (terms.weights_B * terms.loss_B).mean()
        return ObjectiveResult(
            loss,
            terms.error_B.abs(),
            {"td_loss": loss.detach(), **terms.metrics},
            sum_by_game(batch, {"td_loss": terms.loss_B, "td_error": terms.error_B.abs()}),
        )

    def terms(self, batch: DeviceBatch) -> TemporalDifferenceTerms:
        """What each transition adds; the kind of its loss is that of the network's head."""
        future = batch.temporal_difference
        if future is None:
            raise ValueError("value learning needs batches with successors")
        legal_BA = self._legal_GA[batch.game_index_B]
        compute = self._quantile_terms if self._config.quantiles else self._mean_terms
        loss_B, error_B, q_BA = compute(batch, future, legal_BA)
        weights_B = batch.loss_weights_B * importance_weights(
            batch.inverse_probabilities_B,
            self._config.importance_exponent,
            largest=batch.largest_inverse,
        )
        metrics = {
            "td_error": error_B.abs().mean(),
            "q_value": q_BA.detach().masked_fill(~legal_BA, -torch.inf).amax(1).mean(),
        }
        return TemporalDifferenceTerms(
            loss_B=loss_B, error_B=error_B, q_BA=q_BA, weights_B=weights_B, metrics=metrics
        )

    def _mean_terms(
        self, batch: DeviceBatch, future: TemporalDifferenceBatch, legal_BA: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(loss_B, td_error_B, q_BA) of a network with one value per action."""
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
        return loss_B, td_error_B, q_BA

    def _quantile_terms(
        self, batch: DeviceBatch, future: TemporalDifferenceBatch, legal_BA: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(loss_B, td_error_B, q_BA) of a network with quantiles, whose means are q_BA."""
        with torch.no_grad():
            next_online_BA = self._network(future.bootstrap_observations_BCHW, batch.game_index_B)
            next_target_BAZ = self._target.forward_quantiles(
                future.bootstrap_observations_BCHW, batch.game_index_B
            )
        quantiles_BAZ = self._network.forward_quantiles(batch.observations_BCHW, batch.game_index_B)
        loss_B, td_error_B = quantile_double_q_loss(
            quantiles_BAZ,
            batch.actions_B,
            future.returns_B,
            future.bootstrap_discounts_B,
            next_online_BA,
            next_target_BAZ,
            legal_BA,
        )
        return loss_B, td_error_B, quantiles_BAZ.mean(2)

    def after_update(self, num_updates: int) -> None:
        """Copy the network to the target network when its period is over."""
        if num_updates % self._config.target_period == 0:
            self._target.load_state_dict(self._network.state_dict())

    def follow_gaps(self, gaps: Mapping[str, Sequence[float]]) -> None:
        """Nothing here depends on how the student's score compares."""

    def state(self) -> dict[str, Tensor]:
        """The target network."""
        return dict(self._target.state_dict())

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back the target network."""
        self._target.load_state_dict(state)
