"""From a small configuration to a network that fits the games.

Everything about size and shape that a configuration cannot know (actions, frames, games) comes
from the games' specs, so the two cannot disagree.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from games.spec import GameSpec
from networks.config import NetworkConfig
from networks.q_network import QNetwork
from networks.student import MultitaskStudent


def build_q_network(config: NetworkConfig, spec: GameSpec) -> QNetwork:
    """A Q-network for one game.

    Raises:
        ValueError: the configuration asks for per-game heads.
    """
    if config.per_game_heads:
        raise ValueError("per_game_heads has no meaning for a Q-network; leave it off")
    return QNetwork(
        torso=config.torso,
        observation_shape=spec.observation_shape,
        num_actions=spec.num_actions,
        dueling=config.dueling,
    )


def build_student(
    config: NetworkConfig,
    specs: Sequence[GameSpec],
    teacher_feature_sizes: Mapping[str, int] | None = None,
) -> MultitaskStudent:
    """A student for these games, in this order.

    Args:
        config: must not be dueling.
        specs: games with one observation shape and one joint action set.
        teacher_feature_sizes: width of each teacher's features, where they are regressed.

    Raises:
        ValueError: games that one network cannot serve, or a dueling student.
    """
    if config.dueling:
        raise ValueError("a student has no dueling head; leave dueling off")
    if not specs:
        raise ValueError("no games were given; name at least one")
    first = specs[0]
    for spec in specs:
        if (spec.observation_shape, spec.num_actions) != (
            first.observation_shape,
            first.num_actions,
        ):
            raise ValueError(
                f"{spec.name!r} (observations {spec.observation_shape}, {spec.num_actions} "
                f"actions) and {first.name!r} (observations {first.observation_shape}, "
                f"{first.num_actions} actions) do not fit into one student"
            )
    return MultitaskStudent(
        torso=config.torso,
        observation_shape=first.observation_shape,
        num_actions=first.num_actions,
        games=[spec.name for spec in specs],
        per_game_heads=config.per_game_heads,
        teacher_feature_sizes=teacher_feature_sizes or {},
    )


def use_channels_last(network: nn.Module) -> None:
    """Lay convolution weights out so that CPUs and tensor cores read them fastest, in place."""
    # PyTorch accepts the keyword and does not declare it.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
