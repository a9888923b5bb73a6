"""What is learned: an objective turns a batch into a loss, priorities and metrics.

Four, over the same actors and replay: Actor-Mimic distils teachers, n-step double DQN learns from
rewards, joint from both on one head, and actor-critic from rewards with teachers kickstarting.

Shape suffixes:
    B  transitions in the batch, all games mixed, ordered by game
    A  joint action set
    G  games
    D  features of one teacher
    F  the student's features
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from learner.batch import DeviceBatch


@dataclass(frozen=True, slots=True)
class ObjectiveResult:
    """Loss, priorities and metrics of one batch."""

    # Scalar with a gradient: the mean over the batch.
    loss: Tensor
    # Non-negative, detached.
    priorities_B: Tensor
    # Detached float32 scalars, means over the batch.
    metrics: dict[str, Tensor]
    # Detached float32 [G], sums over each game's transitions, unweighted; with their number as
    # `rows`, if there are any.
    game_sums: dict[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """What the learner minimizes."""

    # Steps after each transition that replay must deliver: n of n-step, 0 for distillation.
    num_successors: int

    def __call__(self, batch: DeviceBatch) -> ObjectiveResult:
        """Loss of the network that the objective was built with."""
        ...

    def after_update(self, num_updates: int) -> None:
        """Called when the optimizer has made update number `num_updates`."""
        ...

    def follow_gaps(self, gaps: Mapping[str, Sequence[float]]) -> None:
        """Take in how far the student is behind each teacher of some games, from 0 to 1.

        Only schedules of distillation that follow gaps read it.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep besides the network."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        ...
