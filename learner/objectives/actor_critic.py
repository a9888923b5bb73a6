"""Actor-critic with V-trace on sequences from replay, kickstarted by any number of teachers.

Shape suffixes:
    B  rows of the batch: Q sequences of T steps, one after the other
    Q  sequences
    T  steps of each; a shorter sequence is filled up with rows of weight 0
    A  joint action set
    G  games
    K  teachers of the game that has most
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from learner.batch import DeviceBatch, SequenceTensors
from learner.distillation import TeacherWeights
from learner.divergences import divergence_loss, log_teacher_probabilities
from learner.game_means import sum_by_game
from learner.objectives.base import ObjectiveResult
from learner.objectives.config import ActorCriticConfig, MimicConfig
from learner.v_trace import VTrace, v_trace
from networks.masking import masked_log_softmax
from networks.network import MultitaskNetwork


class ActorCriticObjective:
    """Policy gradient, critic, entropy bonus, and the teachers' cross-entropies.

        loss = mean over steps of
               - A_t log pi(a_t | s_t)  +  value_weight / 2 (v_t - V(s_t))^2
               - entropy_weight H(pi(. | s_t))  +  sum_k lambda_k D(pi_Tk, pi)(s_t)

    (IMPALA, Espeholt et al. 2018, https://arxiv.org/abs/1802.01561, section 4.2; kickstarting,
    Schmitt et al. 2018, https://arxiv.org/abs/1803.03835, section 3.) IMPALA *sums* over batch and
    time; here it is the mean over the steps of the batch, so that learning rate and lambda do not
    change their meaning with its size. Without teachers it is plain IMPALA for several games.
    """

    num_successors = 0

    def __init__(
        self,
        config: ActorCriticConfig,
        mimic: MimicConfig,
        teachers: TeacherWeights,
        network: MultitaskNetwork,
        *,
        legal_GA: Tensor,
        temperatures: Sequence[float],
    ) -> None:
        """Learn `network`.

        Args:
            config: weights and bounds.
            mimic: divergence of the distillation.
            teachers: lambda of every teacher.
            network: with a critic.
            legal_GA: bool, on the network's device.
            temperatures: tau of each game, for all its teachers' policies; the student's policy is
                the softmax of its logits.
        """
        self._config = config
        self._mimic = mimic
        self.teachers = teachers
        self._network = network
        self._legal_GA = legal_GA
        self._temperature_G = torch.tensor(temperatures, device=legal_GA.device)

    def __call__(self, batch: DeviceBatch) -> ObjectiveResult:
        """Mean loss over the batch's steps; a step's priority is how far V-trace corrects it."""
        sequences = batch.sequences
        if sequences is None:
            raise ValueError("objective actor_critic needs batches of sequences")
        legal_BA = self._legal_GA[batch.game_index_B]
        features_BF, after_QF = self._features(batch, sequences)
        logits_BA = self._network.scores(features_BF, batch.game_index_B)
        warming_up = self.teachers.steps < self._config.critic_warmup_steps
        # While it warms up, the critic learns alone and must not change what the policy sees.
        seen_BF = (features_BF.detach() if warming_up else features_BF).float()
        values_B = self._network.values(seen_BF, batch.game_index_B)
        log_policy_BA = masked_log_softmax(logits_BA, legal_BA).masked_fill(~legal_BA, 0.0)
        log_taken_B = log_policy_BA.gather(1, batch.actions_B.unsqueeze(1)).squeeze(1)
        # What was taken had a probability; only underflow to 0 must not become infinite.
        behaviour_B = batch.columns["behaviour_probabilities"].clamp(min=1e-30)
        ratios_B = (log_taken_B.detach() - behaviour_B.log()).exp()
        trace = self._trace(batch, sequences, values_B, after_QF, ratios_B)
        weights_B = batch.loss_weights_B * trace.counts_QT.flatten()
        entropy_B = -(log_policy_BA.exp() * legal_BA * log_policy_BA).sum(1)
        distances_BK = self._distances(batch, logits_BA, legal_BA)
        lambda_BK = self.teachers.tensor()[batch.game_index_B]
        terms = {
            "policy_gradient_loss": -trace.advantages_QT.flatten() * log_taken_B,
            "value_loss": 0.5 * (trace.targets_QT.flatten() - values_B).square(),
            "entropy": entropy_B,
            "distillation_loss": (lambda_BK * distances_BK).sum(1),
        }
        # A share of the weight, not of the steps: rounding alone lifts half of all ratios above 1.
        cut_B = (1.0 - self._config.rho_bar / ratios_B).clamp(min=0.0)
        shown = terms | {"v_trace_clipped": cut_B}
        for teacher in range(self.teachers.max_teachers):
            name = "" if teacher == 0 else f"_{teacher + 1}"
            shown[f"distillation_weight{name}"] = lambda_BK[:, teacher]
            shown[f"teacher_distance{name}"] = distances_BK[:, teacher]
        means = {name: _mean(term_B, weights_B) for name, term_B in shown.items()}
        corrections_B = (trace.targets_QT.flatten() - values_B.detach()).abs()
        return ObjectiveResult(
            self._loss(means, warming_up=warming_up),
            corrections_B,
            {name: mean.detach() for name, mean in means.items()},
            sum_by_game(batch, shown, counts_B=(weights_B > 0).float()),
        )

    def _loss(self, means: dict[str, Tensor], *, warming_up: bool) -> Tensor:
        value_loss = self._config.value_weight * means["value_loss"]
        if warming_up:
            return value_loss
        return (
            means["policy_gradient_loss"]
            + value_loss
            - self._config.entropy_weight * means["entropy"]
            + means["distillation_loss"]
        )

    def _features(self, batch: DeviceBatch, sequences: SequenceTensors) -> tuple[Tensor, Tensor]:
        """[B, F] below the heads, and [Q, F] of the observations after the last steps.

        A network with an LSTM is unrolled from what the actor remembered at the first step. A
        sequence lies in one episode, so nothing is forgotten on the way.
        """
        network = self._network
        features_BF = network.encode(batch.observations_BCHW, batch.game_index_B)
        with torch.no_grad():
            after_QF = network.encode(
                sequences.bootstrap_observations_QCHW, batch.game_index_B[:: sequences.length]
            )
        if network.memory is None:
            return features_BF, after_QF
        outputs_QTF, after_QF = network.memory.unroll(
            features_BF.view(-1, sequences.length, features_BF.shape[1]),
            after_QF,
            sequences.starts["memories"],
            sequences.num_steps_Q,
        )
        return outputs_QTF.flatten(0, 1), after_QF.detach()

    def _trace(
        self,
        batch: DeviceBatch,
        sequences: SequenceTensors,
        values_B: Tensor,
        after_QF: Tensor,
        ratios_B: Tensor,
    ) -> VTrace:
        with torch.no_grad():
            bootstrap_Q = self._network.values(after_QF, batch.game_index_B[:: sequences.length])
        shape = (-1, sequences.length)
        return v_trace(
            values_B.detach().view(shape),
            bootstrap_Q,
            self._rewards(batch, sequences).view(shape),
            batch.columns["discounts"].view(shape) * self._config.gamma,
            ratios_B.view(shape),
            is_step_QT=sequences.is_step_B.view(shape),
            can_bootstrap_Q=sequences.can_bootstrap_Q,
            rho_bar=self._config.rho_bar,
            c_bar=self._config.c_bar,
        )

    def _rewards(self, batch: DeviceBatch, sequences: SequenceTensors) -> Tensor:
        """[B] Clipped rewards, with the teachers' log-probabilities of what is done next, if any.

        A reward for step t comes from the action at t + 1, which the action at t has led to; the
        last step of a sequence has none. It is discounted as the value of t + 1 is.
        """
        clip = self._config.reward_clip
        rewards_B = batch.columns["rewards"].clamp(-clip, clip)
        if self._mimic.divergence != "expected_entropy":
            return rewards_B
        legal_BA = self._legal_GA[batch.game_index_B]
        tau_B = self._temperature_G[batch.game_index_B]
        lambda_BK = self.teachers.tensor()[batch.game_index_B]
        bonus_B = torch.zeros_like(rewards_B)
        for teacher, logits_BA in enumerate(self._teacher_logits(batch)):
            logs_B = log_teacher_probabilities(
                logits_BA, batch.actions_B, legal_BA, temperature=tau_B
            )
            bonus_B += lambda_BK[:, teacher] * logs_B
        bonus_QT = (bonus_B * sequences.is_step_B).view(-1, sequences.length)[:, 1:]
        later_QT = functional.pad(bonus_QT, (0, 1))
        return rewards_B + self._config.gamma * batch.columns["discounts"] * later_QT.flatten()

    def _distances(self, batch: DeviceBatch, logits_BA: Tensor, legal_BA: Tensor) -> Tensor:
        """[B, K] Divergence from each teacher; 0 for teachers that a game does not have."""
        tau_B = self._temperature_G[batch.game_index_B]
        distances = [
            divergence_loss(
                self._mimic.divergence,
                logits_BA,
                teacher_BA,
                legal_BA,
                temperature=tau_B,
                teacher_share=self._mimic.jensen_shannon_share,
            )
            for teacher_BA in self._teacher_logits(batch)
        ]
        missing = self.teachers.max_teachers - len(distances)
        distances += [torch.zeros_like(batch.loss_weights_B)] * missing
        is_there_BK = self.teachers.is_there()[batch.game_index_B]
        return torch.stack(distances, 1).masked_fill(~is_there_BK, 0.0)

    def _teacher_logits(self, batch: DeviceBatch) -> tuple[Tensor, ...]:
        """[B, A] of each teacher; zeros for those that a game does not have."""
        if not batch.teacher_logits_BA.shape[1]:
            return ()
        return torch.split(batch.teacher_logits_BA, self._legal_GA.shape[1], 1)

    def after_update(self, num_updates: int) -> None:
        """Let the schedule follow."""
        self.teachers.num_updates = num_updates

    def follow_gaps(self, gaps: Mapping[str, Sequence[float]]) -> None:
        """Take in how far the student is behind its teachers; see TeacherWeights."""
        for game, of_teachers in gaps.items():
            self.teachers.follow_gaps(game, of_teachers)

    def state(self) -> dict[str, Tensor]:
        """Where the schedule is."""
        return self.teachers.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        self.teachers.load_state(state)


def _mean(term_B: Tensor, weights_B: Tensor) -> Tensor:
    """Weighted mean over the steps that count; 0 in a batch without any."""
    return (weights_B * term_B).sum() / weights_B.sum().clamp(min=1e-6)
