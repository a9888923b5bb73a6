"""Settings of the objectives. Imports no torch: a command line is read before that is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from annotated_types import Ge, Gt, Interval

from learner.tunable import Tunable

# What distillation minimizes; learner/divergences.py has the formulas.
Divergence: TypeAlias = Literal["forward", "reverse_kl", "jensen_shannon", "expected_entropy"]

# How the weight of distillation goes with time; learner/distillation.py has the formulas.
ScheduleKind: TypeAlias = Literal["constant", "linear", "exponential", "gap"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MimicConfig:
    """Distillation: the Actor-Mimic objective, and the teachers' part of all others."""

    temperature: Annotated[float, Gt(0)] = 0.05
    """tau of softmax(Q / tau), the teacher's policy, in units of clipped discounted reward
    (paper: 1)."""
    feature_weight: Annotated[float, Ge(0), Tunable(1e-4, 1.0)] = 0.0
    """beta of the feature regression (paper: 0 in the multitask experiment, 0.01 for transfer)."""
    divergence: Divergence = "forward"
    """`forward`: cross-entropy from the teacher's policy to the student's (the paper's);
    `reverse_kl`: KL(student || teacher), as usual in on-policy distillation of language models;
    `jensen_shannon`: between the two; `expected_entropy`: cross-entropy from the student's policy
    to the teacher's, with the teacher's log-probability as a reward, only for actor_critic."""
    jensen_shannon_share: Annotated[float, Interval(gt=0, lt=1)] = 0.5
    """The teacher's part of the mixture that jensen_shannon compares both policies with."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillationConfig:
    """How much the teachers count beside rewards: lambda, for the objectives that have both."""

    weight: Annotated[float, Ge(0), Tunable(1e-3, 10.0)] = 1.0
    """Lambda at the start; 0: no teacher is asked. A game whose expert is neither named nor shipped
    learns from its rewards alone. Losses are means over transitions, so lambda does not change its
    meaning with the batch size; distillation of Q-values has gradients 1 / tau times as large as
    those of logits."""
    schedule: ScheduleKind = "constant"
    """`constant`: the student is held to its teacher for ever; `linear` and `exponential`: it is
    let go over distillation.steps; `gap`: lambda follows max(1 - student / teacher, 0), from each
    game's latest returns, measured from random play."""
    steps: Annotated[int, Ge(0)] = 0
    """Environment steps, all games together: in which a linear schedule ends, or in which an
    exponential one halves."""
    floor: Annotated[float, Ge(0)] = 0.0
    """What lambda never falls below."""
    weights: tuple[str, ...] = ()
    """`game=weight` where a game's differ from distillation.weight: one for all of its teachers, or
    one for each (`pong=1.0,0.5`), in the order of --teachers."""
    schedules: tuple[str, ...] = ()
    """`game=schedule` likewise, as in `pong=linear,gap`."""
    durations: tuple[str, ...] = ()
    """`game=steps` likewise, where they differ from distillation.steps."""
    floors: tuple[str, ...] = ()
    """`game=floor` likewise."""
    gated: bool = False
    """Drop a batch's distillation where its gradient opposes that of the rewards; only for joint,
    and about twice the work of an update."""

    def __post_init__(self) -> None:
        """Refuse a schedule without end, and a floor above its start."""
        if self.schedule in ("linear", "exponential") and self.steps == 0:
            meaning = "ends" if self.schedule == "linear" else "halves"
            raise ValueError(
                f"distillation.schedule {self.schedule} needs distillation.steps, the environment "
                f"steps in which it {meaning}"
            )
        if self.floor > self.weight:
            raise ValueError(
                f"distillation.floor ({self.floor:g}) lies above distillation.weight "
                f"({self.weight:g}), where the schedule begins; lower the floor"
            )

    @property
    def asks_teachers(self) -> bool:
        """Whether some teacher has a weight."""
        return self.weight > 0 or bool(self.weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorCriticConfig:
    """Actor-critic with V-trace (IMPALA), with teachers kickstarting."""

    sequence_length: Annotated[int, Ge(2)] = 16
    """T, the steps of each sequence that is drawn (IMPALA on Atari: 20); replay.batch_size counts
    steps and must be a multiple of it."""
    gamma: Annotated[float, Interval(ge=0, lt=1)] = 0.99
    """Discount per step."""
    reward_clip: Annotated[float, Gt(0)] = 1.0
    """Rewards are clipped to plus or minus this."""
    rho_bar: Annotated[float, Gt(0)] = 1.0
    """Bound of the importance ratios that weigh each step."""
    c_bar: Annotated[float, Gt(0)] = 1.0
    """Bound of the importance ratios that carry later steps back; at most rho_bar."""
    value_weight: Annotated[float, Ge(0), Tunable(0.05, 5.0)] = 0.5
    """Weight of the critic's loss, half the squared distance to V-trace's target."""
    entropy_weight: Annotated[float, Ge(0), Tunable(5e-5, 0.1)] = 0.01
    """Weight of the policy's entropy, which is a bonus."""
    critic_warmup_steps: Annotated[int, Ge(0)] = 0
    """Environment steps, all games together, in which the critic alone is learned; for a policy
    that starts from another network's weights."""

    def __post_init__(self) -> None:
        """Refuse a c_bar above rho_bar, which the paper's analysis rules out."""
        if self.c_bar > self.rho_bar:
            raise ValueError(
                f"actor_critic.c_bar ({self.c_bar:g}) must be at most actor_critic.rho_bar "
                f"({self.rho_bar:g})"
            )
