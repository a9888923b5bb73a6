"""Settings of the objectives. Imports no torch: a command line is read before that is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class MimicConfig:
    """The Actor-Mimic objective."""

    temperature: Annotated[float, Gt(0)] = 0.05
    """tau of softmax(Q / tau), the teacher's policy, in units of clipped discounted reward
    (paper: 1)."""
    feature_weight: Annotated[float, Ge(0)] = 0.0
    """beta of the feature regression (paper: 0 in the multitask experiment, 0.01 for transfer)."""
    priority: Literal["l1", "kl"] = "l1"
    """Distance between the two policies that prioritizes a transition."""
    importance_exponent: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """How far importance weights correct for prioritized sampling; 0 not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DqnConfig:
    """The n-step double DQN objective of Ape-X."""

    num_steps: Annotated[int, Ge(1)] = 3
    """n of the n-step return."""
    gamma: Annotated[float, Interval(ge=0, lt=1)] = 0.99
    """Discount per step."""
    reward_clip: Annotated[float, Gt(0)] = 1.0
    """Rewards are clipped to plus or minus this."""
    target_period: Annotated[int, Ge(1)] = 1_000
    """Updates between copies to the target network."""
    importance_exponent: Annotated[float, Interval(ge=0, le=1)] = 0.4
    """How far importance weights correct for prioritized sampling."""
    quantiles: Annotated[int, Interval(ge=0, le=1_024)] = 0
    """Number of quantiles of the return learned for every action (QR-DQN; the paper has 200); 0
    learns its mean alone."""

    @property
    def algorithm(self) -> str:
        """Name of what these settings make of the objective, for an expert's card."""
        name = f"double QR-DQN with {self.quantiles} quantiles" if self.quantiles else "double DQN"
        return f"{name}, {self.num_steps}-step"
