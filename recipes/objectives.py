"""What each objective asks of everything around it: the one table that tells objectives apart.

An objective states its needs; networks, actors, replay and the learner's loader are derived from
that statement (recipes/recipe.py) and never ask which objective it is. A new objective is a file
in learner/objectives/ and a row in OBJECTIVES here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actors.priorities import Alike, PolicyDistance, PriorityRule, TdError
from learner.distillation import TeacherWeights, steps_of
from learner.objectives.actor_critic import ActorCriticObjective
from learner.objectives.base import Objective
from learner.objectives.joint import JointObjective
from learner.objectives.mimic import ActorMimicObjective
from learner.objectives.value import DqnObjective
from networks.network import MultitaskNetwork
from recipes.distillation import schedules_of

if TYPE_CHECKING:
    from recipes.config import RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What an objective needs of the network, of acting and of replay."""

    # What the network's head gives: a number for each joint action, and the state's value, too.
    head: Literal["logits", "q_values", "policy_and_value"]
    # Whether actors draw from the policy, instead of playing its best action epsilon-greedily.
    draws_actions: bool = False
    # Whether teachers label every state.
    labels: bool = False
    # Whether a game may have more than one teacher.
    several_teachers: bool = False
    # Whether a game without a teacher is refused; elsewhere its rewards must do.
    every_game_taught: bool = False
    # Whether the teacher's features are stored and regressed.
    features: bool = False
    # Quantiles of every action's return that the head gives; 0 for their mean alone.
    num_quantiles: int = 0
    # Steps after each transition that replay delivers: n of an n-step return.
    num_successors: int = 0
    # Consecutive steps of each sequence that replay delivers; 1 for single steps.
    sequence_length: int = 1
    # Numbers that a network with an LSTM remembers, which actors store; 0 without one.
    memory_size: int = 0
    # Names of the optional columns of replay/columns.py that actors store.
    extra_columns: tuple[str, ...] = ()
    # Discount of n-step returns, per step; without meaning where nothing bootstraps.
    gamma: float = 0.99
    # Bound of a reward's size in n-step returns, in the game's own score.
    reward_clip: float = 1.0


class ObjectiveKind(Protocol):
    """One row of the table."""

    def needs(self, config: RunConfig) -> Needs:
        """What a run with these settings needs.

        Raises:
            ValueError: settings that this objective has no use for, or cannot learn with.
        """
        ...

    def build(
        self, config: RunConfig, network: MultitaskNetwork, legal_GA: Tensor, taught: Sequence[int]
    ) -> Objective:
        """The loss of `network`.

        Args:
            config: settings of the run.
            network: what learns.
            legal_GA: bool, on the network's device.
            taught: how many teachers each game has, in the order of the games.
        """
        ...

    def priority_rule(
        self, config: RunConfig, game: str, legal_A: NDArray[np.bool_]
    ) -> PriorityRule:
        """How an actor of `game` judges its own transitions; `legal_A` is the game's mask."""
        ...


class _Mimic:
    """Distillation of one teacher a game (Actor-Mimic)."""

    def needs(self, config: RunConfig) -> Needs:
        _refuse_lstm(config)
        if config.network.dueling:
            raise ValueError(
                "network.dueling separates a value from advantages, and objective mimic learns "
                "logits, which have no value; use --network.dueling False"
            )
        if config.mimic.divergence == "expected_entropy":
            raise ValueError(
                "mimic.divergence expected_entropy needs rewards, which objective mimic learns "
                "without; use --objective actor_critic, or reverse_kl"
            )
        return Needs(
            head="logits",
            labels=True,
            every_game_taught=True,
            features=config.mimic.feature_weight > 0,
        )

    def build(
        self, config: RunConfig, network: MultitaskNetwork, legal_GA: Tensor, taught: Sequence[int]
    ) -> Objective:
        return ActorMimicObjective(
            config.mimic,
            network,
            legal_GA=legal_GA,
            temperatures=_in_order(config.games, config.temperature_of),
        )

    def priority_rule(
        self, config: RunConfig, game: str, legal_A: NDArray[np.bool_]
    ) -> PriorityRule:
        return PolicyDistance(
            legal_A, temperature=config.temperature_of[game], kind=config.mimic.priority
        )


class _Dqn:
    """n-step double DQN, from rewards alone."""

    def needs(self, config: RunConfig) -> Needs:
        _refuse_lstm(config)
        if config.teachers:
            raise ValueError(
                "objective dqn learns from rewards alone and asks no teacher; leave --teachers "
                "out, or use --objective joint"
            )
        _refuse_partitions(config, taught=False)
        return _needs_of_q_values(config, labels=False)

    def build(
        self, config: RunConfig, network: MultitaskNetwork, legal_GA: Tensor, taught: Sequence[int]
    ) -> Objective:
        return DqnObjective(config.dqn, network, legal_GA=legal_GA)

    def priority_rule(
        self, config: RunConfig, game: str, legal_A: NDArray[np.bool_]
    ) -> PriorityRule:
        return _td_error(config, legal_A)


class _Joint:
    """n-step double DQN and distillation on the same Q-values."""

    def needs(self, config: RunConfig) -> Needs:
        _refuse_lstm(config)
        _refuse_features(config)
        if config.mimic.divergence == "expected_entropy":
            raise ValueError(
                "mimic.divergence expected_entropy makes rewards of what a policy draws, and "
                "objective joint acts by Q-values; use reverse_kl"
            )
        taught = _asks_teachers(config)
        _refuse_partitions(config, taught=taught)
        return _needs_of_q_values(config, labels=taught)

    def build(
        self, config: RunConfig, network: MultitaskNetwork, legal_GA: Tensor, taught: Sequence[int]
    ) -> Objective:
        return JointObjective(
            DqnObjective(config.dqn, network, legal_GA=legal_GA),
            config.mimic,
            _teacher_weights(config, taught, legal_GA.device),
            network,
            legal_GA=legal_GA,
            temperatures=_in_order(config.games, config.temperature_of),
            gated=config.distillation.gated,
        )

    def priority_rule(
        self, config: RunConfig, game: str, legal_A: NDArray[np.bool_]
    ) -> PriorityRule:
        return _td_error(config, legal_A)


class _ActorCritic:
    """V-trace actor-critic, kickstarted by teachers where there are any."""

    def needs(self, config: RunConfig) -> Needs:
        if config.network.dueling:
            raise ValueError(
                "network.dueling is for Q-values, and objective actor_critic has a critic of its "
                "own; use --network.dueling False"
            )
        _refuse_features(config)
        if config.actor.exploration == "ladder":
            raise ValueError(
                "actor.exploration ladder is for epsilon-greedy acting, and objective actor_critic "
                "draws actions from its policy; use constant"
            )
        length = config.actor_critic.sequence_length
        part = config.learner.part_of(config.replay.batch_size)
        if part % length:
            fewer = part - part % length
            sizes = [n * config.learner.num_replicas for n in (fewer, fewer + length) if n]
            raise ValueError(
                f"replay.batch_size ({config.replay.batch_size}) counts steps, and each learner's "
                f"part of it must be whole sequences of actor_critic.sequence_length ({length}); "
                f"use {' or '.join(map(str, sizes))}"
            )
        taught = _asks_teachers(config)
        _refuse_partitions(config, taught=taught)
        remembers = config.network.lstm_width > 0
        if remembers and config.actor.inference == "server":
            raise ValueError(
                "actor.inference server plays networks without memory, and network.lstm_width is "
                f"{config.network.lstm_width}; use --actor.inference actor"
            )
        return Needs(
            head="policy_and_value",
            labels=taught,
            several_teachers=True,
            draws_actions=True,
            sequence_length=length,
            memory_size=2 * config.network.lstm_width,
            extra_columns=("behaviour_probabilities", *(("memories",) if remembers else ())),
        )

    def build(
        self, config: RunConfig, network: MultitaskNetwork, legal_GA: Tensor, taught: Sequence[int]
    ) -> Objective:
        return ActorCriticObjective(
            config.actor_critic,
            config.mimic,
            _teacher_weights(config, taught, legal_GA.device),
            network,
            legal_GA=legal_GA,
            temperatures=_in_order(config.games, config.temperature_of),
        )

    def priority_rule(
        self, config: RunConfig, game: str, legal_A: NDArray[np.bool_]
    ) -> PriorityRule:
        return Alike()


# The table, by the value of `objective` in the configuration.
OBJECTIVES: Mapping[str, ObjectiveKind] = {
    "mimic": _Mimic(),
    "dqn": _Dqn(),
    "joint": _Joint(),
    "actor_critic": _ActorCritic(),
}


def _refuse_lstm(config: RunConfig) -> None:
    """Raise ValueError for a network that remembers, where single steps are learned from."""
    if config.network.lstm_width:
        raise ValueError(
            f"network.lstm_width {config.network.lstm_width} needs sequences to learn from, and "
            f"objective {config.objective} learns from single steps; use --objective actor_critic, "
            "or --network.lstm-width 0"
        )


def _refuse_features(config: RunConfig) -> None:
    """Raise ValueError for feature regression, which distillation beside rewards does not have."""
    if config.mimic.feature_weight > 0:
        raise ValueError(
            "mimic.feature_weight regresses teachers' features only with objective mimic; "
            "leave it at 0"
        )


def _asks_teachers(config: RunConfig) -> bool:
    """Whether there are labels to learn from; ValueError for teachers that nobody would ask."""
    if config.teachers and not config.distillation.asks_teachers:
        raise ValueError(
            "distillation.weight is 0, so that no teacher is asked; leave --teachers out, or give "
            "it a weight"
        )
    return config.distillation.asks_teachers


def _in_order(games: Sequence[str], values: Mapping[str, float]) -> list[float]:
    return [values[game] for game in games]


def _needs_of_q_values(config: RunConfig, *, labels: bool) -> Needs:
    dqn = config.dqn
    return Needs(
        head="q_values",
        labels=labels,
        num_quantiles=dqn.quantiles,
        num_successors=dqn.num_steps,
        gamma=dqn.gamma,
        reward_clip=dqn.reward_clip,
    )


def _td_error(config: RunConfig, legal_A: NDArray[np.bool_]) -> TdError:
    dqn = config.dqn
    return TdError(legal_A, num_steps=dqn.num_steps, gamma=dqn.gamma, reward_clip=dqn.reward_clip)


def _teacher_weights(
    config: RunConfig, taught: Sequence[int], device: torch.device
) -> TeacherWeights:
    steps = steps_of(
        1,
        batch_size=config.replay.batch_size,
        samples_per_insert=config.replay.samples_per_insert,
    )
    return TeacherWeights(
        schedules_of(config.distillation, dict(zip(config.games, taught, strict=True))),
        steps_per_update=steps,
        device=device,
    )


def _refuse_partitions(config: RunConfig, *, taught: bool) -> None:
    if config.replay.sampler == "hierarchical" and not taught:
        raise ValueError(
            "replay.sampler hierarchical goes by a teacher's values, and this run learns without "
            f"teachers (objective {config.objective}); use uniform, proportional or rank"
        )
