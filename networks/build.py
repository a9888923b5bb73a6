"""From a small configuration to a network that fits the games.

Everything about size and shape that a configuration cannot know (actions, frames, games) comes
from the games' specs, so the two cannot disagree.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from games.spec import GameSpec
from networks.config import NetworkConfig
from networks.network import MultitaskNetwork


def build_network(
    config: NetworkConfig,
    specs: Sequence[GameSpec],
    *,
    num_quantiles: int = 0,
    has_critic: bool = False,
    teacher_feature_sizes: Mapping[str, int] | None = None,
) -> MultitaskNetwork:
    """A network for these games, in this order."""
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
                f"{first.num_actions} actions) do not fit into one network"
            )
    return MultitaskNetwork(
        torso=config.torso,
        observation_shape=first.observation_shape,
        num_actions=first.num_actions,
        games=[spec.name for spec in specs],
        heads=config.heads,
        dueling=config.dueling,
        lstm_width=config.lstm_width,
        num_quantiles=num_quantiles,
        has_critic=has_critic,
        teacher_feature_sizes=teacher_feature_sizes or {},
    )


def use_channels_last(network: nn.Module) -> None:
    """Lay convolution weights out so that CPUs and tensor cores read them fastest, in place."""
    # PyTorch accepts the keyword and does not declare it.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
