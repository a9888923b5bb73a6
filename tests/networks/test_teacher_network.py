"""Torsos and heads that only teachers from other libraries have."""

import pytest
import torch
from foreign_layouts import random_layers
from reference_networks import categorical_mean, nature_same, nature_valid
from torch import Tensor, nn

from networks.network import MultitaskNetwork
from networks.teacher_network import CategoricalNetwork
from networks.torso import build_torso

ATARI = (4, 84, 84)


def observations(batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, *ATARI), dtype=torch.uint8, generator=generator)


def fill(torso: nn.Module, same: bool) -> Tensor:
    """Random weights; returns what the written-out network makes of them."""
    layers = random_layers(1, same=same)
    targets = [layer for layer in torso.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        for target, (weight, bias) in zip(targets, layers.hidden, strict=True):
            target.weight.copy_(weight)
            target.bias.copy_(bias)
    return (nature_same if same else nature_valid)(layers, observations())[0]


@pytest.mark.parametrize(("name", "same"), [("nature_valid", False), ("nature_same", True)])
def test_torsos_without_and_with_same_padding_equal_their_layers_written_out(
    name: str, same: bool
) -> None:
    torso = build_torso(name, ATARI)
    expected = fill(torso, same)
    torch.testing.assert_close(torso(observations()), expected, rtol=1e-5, atol=1e-5)
    assert torso.num_features == 512


def categorical(num_atoms: int = 5) -> CategoricalNetwork:
    torch.manual_seed(0)
    network = CategoricalNetwork(
        torso="nature_quarter", observation_shape=ATARI, num_actions=3, num_atoms=num_atoms
    )
    network.atoms_Z.copy_(torch.linspace(-2, 2, num_atoms))
    return network


def test_a_categorical_network_gives_the_mean_of_every_actions_distribution() -> None:
    network = categorical()
    q, features = network.forward_with_features(observations())
    expected = categorical_mean(network.head(features), network.atoms_Z)
    torch.testing.assert_close(q, expected)
    assert torch.equal(network(observations()), q)
    assert q.shape == (2, 3)


def test_a_policy_network_gives_logits_and_a_value_from_the_same_features() -> None:
    torch.manual_seed(0)
    network = MultitaskNetwork(
        has_critic=True, torso="nature_quarter", observation_shape=ATARI, num_actions=3
    )
    logits, features = network.forward_with_features(observations())
    assert torch.equal(logits, network.head(features))
    assert torch.equal(network.values(features), network.critic(features)[:, 0])
    assert torch.equal(network(observations()), logits)


def test_heads_stay_in_full_precision_under_autocast() -> None:
    network = categorical()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q, features = network.forward_with_features(observations())
    assert (q.dtype, features.dtype) == (torch.float32, torch.float32)
    assert torch.equal(q, categorical_mean(network.head(features), network.atoms_Z))
