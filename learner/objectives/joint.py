"""Learning from rewards and teachers at once, on the Q-values of one head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from learner.batch import DeviceBatch
from learner.distillation import TeacherWeights
from learner.divergences import divergence_loss
from learner.game_means import sum_by_game
from learner.objectives.base import ObjectiveResult
from learner.objectives.config import MimicConfig
from learner.objectives.value import DqnObjective


class JointObjective:
    """n-step TD loss plus lambda times distillation, with softmax(Q / tau) as both policies.

    The student's Q-values are those of its rewards and, as long as lambda is not 0, of a policy
    near its teacher's. As in QDagger (Agarwal et al. 2022, https://arxiv.org/abs/2206.01626,
    equation 1), but lambda may follow any schedule, and there is no offline phase. Distillation is
    not scaled by tau: its gradient by Q is (pi_S - pi_T) / tau, which a lambda has to allow for.
    """

    def __init__(
        self,
        rewards: DqnObjective,
        mimic: MimicConfig,
        teachers: TeacherWeights,
        network: nn.Module,
        *,
        legal_GA: Tensor,
        temperatures: Sequence[float],
        gated: bool,
    ) -> None:
        """Learn the network of `rewards`.

        Args:
            rewards: n-step double Q-learning of the network.
            mimic: divergence of the distillation.
            teachers: weight of the distillation, of one teacher a game.
            network: the same network; its gradients are what a gate compares.
            legal_GA: bool, on the network's device.
            temperatures: tau of each game, of both policies.
            gated: drop a batch's distillation where its gradient opposes that of the rewards (Du et
                al. 2018, https://arxiv.org/abs/1812.02224); costs two more backward passes.
        """
        self.num_successors = rewards.num_successors
        self._rewards = rewards
        self._mimic = mimic
        self.teachers = teachers
        self._network = network
        self._legal_GA = legal_GA
        self._temperature_G = torch.tensor(temperatures, device=legal_GA.device)
        self._gated = gated

    def __call__(self, batch: DeviceBatch) -> ObjectiveResult:
        """Weighted means of both losses; the priority is the size of the TD error."""
        td = self._rewards.terms(batch)
        tau_B = self._temperature_G[batch.game_index_B]
        distillation_B = divergence_loss(
            self._mimic.divergence,
            td.q_BA / tau_B.unsqueeze(1),
            batch.teacher_logits_BA,
            self._legal_GA[batch.game_index_B],
            temperature=tau_B,
            teacher_share=self._mimic.jensen_shannon_share,
        )
        lambda_B = self.teachers.tensor()[:, 0][batch.game_index_B]
        td_loss = (td.weights_B * td.loss_B).mean()
        distillation = (td.weights_B * lambda_B * distillation_B).mean()
        metrics = td.metrics | {
            "distillation_loss": distillation_B.detach().mean(),
            "distillation_weight": lambda_B.mean(),
        }
        if self._gated:
            kept = _agree(td_loss, distillation, self._network.parameters())
            distillation = kept * distillation
            metrics["distillation_kept"] = kept
        terms = {
            "td_loss": td.loss_B,
            "distillation_loss": distillation_B,
            "distillation_weight": lambda_B,
        }
        return ObjectiveResult(
            td_loss + distillation, td.error_B.abs(), metrics, sum_by_game(batch, terms)
        )

    def after_update(self, num_updates: int) -> None:
        """Let the target network and the schedule follow."""
        self._rewards.after_update(num_updates)
        self.teachers.num_updates = num_updates

    def follow_gaps(self, gaps: Mapping[str, Sequence[float]]) -> None:
        """Take in how far the student is behind its teachers; see TeacherWeights."""
        for game, of_teachers in gaps.items():
            self.teachers.follow_gaps(game, of_teachers)

    def state(self) -> dict[str, Tensor]:
        """The target network, and where the schedule is."""
        teachers = {f"teachers.{name}": value for name, value in self.teachers.state().items()}
        return self._rewards.state() | teachers

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        prefix = "teachers."
        target = {name: value for name, value in state.items() if not name.startswith(prefix)}
        self._rewards.load_state(target)
        self.teachers.load_state(
            {name.removeprefix(prefix): state[name] for name in state.keys() - target.keys()}
        )


def _agree(one: Tensor, other: Tensor, parameters: Iterable[nn.Parameter]) -> Tensor:
    """Whether two losses' gradients lie within a right angle: 1 or 0, never waited for."""
    learned = [parameter for parameter in parameters if parameter.requires_grad]
    pairs = zip(
        torch.autograd.grad(one, learned, retain_graph=True, allow_unused=True),
        torch.autograd.grad(other, learned, retain_graph=True, allow_unused=True),
        strict=True,
    )
    products = [(a * b).sum() for a, b in pairs if a is not None and b is not None]
    return (torch.stack(products).sum() >= 0).float()
