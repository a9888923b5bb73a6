"""Settings of learning. Imports no torch: a command line is read before that is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval

from learner.tunable import Tunable

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerConfig:
    """How the network is updated."""

    optimizer: Literal["adam", "actor_mimic_adam", "centered_rmsprop"] = "adam"
    """`adam` is PyTorch's; the other two are the papers' own."""
    learning_rate: Annotated[float, Gt(0), Tunable(5e-6, 5e-3)] = 3e-4
    """Step size (paper: 2.5e-4 for its own Adam)."""
    learning_rate_decay: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Last part of the run, from 0 to 1, over which the step size falls to 0 in a straight line."""
    adam_epsilon: Annotated[float, Gt(0), Tunable(1e-8, 1e-2)] = 1e-5
    """Added to the root of Adam's second moment; only for `adam`."""
    max_gradient_norm: Annotated[float, Ge(0), Tunable(0.1, 100.0)] = 10.0
    """Gradients are scaled down to this norm; 0 leaves them alone (paper: 0)."""
    precision: Precision = "auto"
    """Precision of convolutions and hidden layers; weights, heads and losses are always float32.
    `auto` is bfloat16 where the device has instructions for it, else float32."""
    publish_period: Annotated[int, Ge(1)] = 50
    """Updates between two publications of the weights."""
    frozen_torso_updates: Annotated[int, Ge(0)] = 0
    """Updates at the beginning in which only heads learn, on a torso that stays as it is: for
    networks that start from weights of the past."""
    probe_period: Annotated[int, Ge(0)] = 500
    """Updates between two looks at the network's features, weights and, with several games, the
    cosines of their gradients; more where a look would take 1 % of the time. 0 for none."""
    num_replicas: Annotated[int, Ge(1)] = 1
    """Learners that make every update together, each on a GPU of its own and on its part of the
    batch. Only for the Ray engine."""

    def part_of(self, batch_size: int) -> int:
        """Transitions that each replica has of a batch; ValueError if they cannot be equally many.

        Equally many, because the mean over the batch is then the mean over the replicas' means.
        """
        if batch_size % self.num_replicas:
            fewer = batch_size - batch_size % self.num_replicas
            raise ValueError(
                f"replay.batch_size ({batch_size}) must be a multiple of learner.num_replicas "
                f"({self.num_replicas}); use {f'{fewer} or ' if fewer else ''}"
                f"{fewer + self.num_replicas}"
            )
        return batch_size // self.num_replicas
