"""Learning from teachers: policy regression and feature regression (Actor-Mimic)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from learner.batch import DeviceBatch
from learner.divergences import divergence_loss
from learner.game_means import sum_by_game
from learner.losses import (
    feature_mimic_loss,
    importance_weights,
)
from learner.objectives.base import ObjectiveResult
from learner.objectives.config import MimicConfig
from networks.network import MultitaskNetwork
from teachers.targets import mimic_distance


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
        student: MultitaskNetwork,
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
        policy_loss_B = divergence_loss(
            self._config.divergence,
            logits_BA,
            batch.teacher_logits_BA,
            legal_BA,
            temperature=temperature_B,
            teacher_share=self._config.jensen_shannon_share,
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

    def follow_gaps(self, gaps: Mapping[str, Sequence[float]]) -> None:
        """Nothing here depends on how the student's score compares."""

    def state(self) -> dict[str, Tensor]:
        """Nothing but the student itself."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Nothing to take back."""
