"""Begins a network with weights of the past: a student's, or an expert's, of the same torso.

What becomes of the head is a choice. A student's logits are Q / tau up to a shift that depends on
the state; as Q-values they are too large by 1 / tau, so a head that is kept as it is looks like
negative transfer for a reason of units alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from networks.network import MultitaskNetwork
from recipes.config import RunConfig
from recipes.student import find_trained
from teachers.expert import Expert


@dataclass(frozen=True, slots=True)
class Start:
    """Weights to begin with."""

    network: MultitaskNetwork
    # tau of a student's logits; None for an expert, whose head gives Q-values already.
    temperature: float | None


def begin(network: MultitaskNetwork, config: RunConfig) -> None:
    """Give `network` the weights that `start_from` names, if it names any.

    Raises:
        ValueError: they are not there, or do not fit the network or what is asked of the head.
    """
    references = {reference for reference in config.start_of.values() if reference}
    if not references:
        return
    if len(references) > 1 or not all(config.start_of.values()):
        raise ValueError(
            "start_from: one network begins with one set of weights; name it once, without a game"
        )
    (reference,) = references
    start = _find(reference)
    _check_fits(network, start, reference=reference, head=config.start_head)
    _check_critic(network, start, config, reference=reference)
    _copy(network, start, head=config.start_head)


def _find(reference: str) -> Start:
    found = find_trained(reference)
    if isinstance(found, Expert):
        network = found.network
        if not isinstance(network, MultitaskNetwork) or network.critic is not None:
            raise ValueError(
                f"start_from: {reference} is an expert of another kind than those trained here; "
                "its layers have no place in this network"
            )
        return Start(network, None)
    temperature = found.config.mimic.temperature if found.config else None
    return Start(found.load(), temperature)


def _check_fits(network: MultitaskNetwork, start: Start, *, reference: str, head: str) -> None:
    """Raises ValueError for weights that the network has no place for."""
    source = start.network
    wanted = (network.torso_name, network.observation_shape)
    if (source.torso_name, source.observation_shape) != wanted:
        raise ValueError(
            f"start_from: {reference} has torso {source.torso_name} for observations "
            f"{source.observation_shape}, this network {wanted[0]} for {wanted[1]}; use "
            f"--network.torso {source.torso_name} with games of that shape"
        )
    if all(not value.any() for value in source.torso.state_dict().values()):
        raise ValueError(f"start_from: all weights of {reference} are zero; name another one")
    if "per_game_dense" in (source.heads, network.heads):
        raise ValueError(
            f"start_from: {reference} or this network has dense layers of single games "
            "(network.heads per_game_dense), which no other network can begin with"
        )
    if head == "fresh":
        return
    widths = [part.memory.width if part.memory else 0 for part in (source, network)]
    if widths[0] != widths[1]:
        raise ValueError(
            f"start_from: the LSTM of {reference} is {widths[0]} wide and this network's "
            f"{widths[1]} (0: none); use --network.lstm-width {widths[0]}, or --start-head fresh, "
            "which begins with the torso alone"
        )
    if (source.heads, source.dueling, source.num_actions) != (
        network.heads,
        network.dueling,
        network.num_actions,
    ):
        raise ValueError(
            f"start_from: the head of {reference} (heads {source.heads}, dueling {source.dueling}, "
            f"{source.num_actions} actions) is not this network's (heads {network.heads}, dueling "
            f"{network.dueling}, {network.num_actions} actions); use --start-head fresh"
        )
    if head == "rescale" and start.temperature is None:
        raise ValueError(
            f"start_from: --start-head rescale turns a student's logits into Q-values by its "
            f"run's temperature, and {reference} has none; use keep or fresh"
        )


def _check_critic(
    network: MultitaskNetwork, start: Start, config: RunConfig, *, reference: str
) -> None:
    """Raises ValueError where a critic that knows nothing would spoil the policy it begins with."""
    lacks_critic = network.critic is not None and start.network.critic is None
    if lacks_critic and not config.actor_critic.critic_warmup_steps:
        raise ValueError(
            f"start_from: {reference} has no critic, and a fresh one would first unlearn its "
            "policy; give it steps to learn alone: --actor-critic.critic-warmup-steps 10000"
        )


def _copy(network: MultitaskNetwork, start: Start, *, head: str) -> None:
    if head == "fresh":
        network.torso.load_state_dict(start.network.torso.state_dict())
        return
    source = start.network
    if network.num_quantiles != source.num_quantiles:
        source = source.with_quantiles(network.num_quantiles)
    # Not strict: feature regressors and a critic are the new network's own.
    network.load_state_dict(source.state_dict(), strict=False)
    if head == "rescale":
        assert start.temperature is not None
        with torch.no_grad():
            # Weights and biases alike: the layer is linear, so its outputs are scaled.
            for parameter in network.head.parameters():
                parameter.mul_(start.temperature)
