"""Networks that only teachers have: a return distribution per action, or a policy with its critic.

Teachers with one Q-value per action are a QNetwork. What all kinds share: `forward` judges the
joint actions, `forward_with_features` also gives the last hidden layer, and nothing in here knows
of legal actions.

Shape suffixes:
    B  observations in the batch
    C, H, W  channels, height and width of one observation
    F  features: width of the torso's last hidden layer
    A  joint action set (18 for Atari)
    Z  atoms of a return distribution
"""

from typing import TypeAlias

import torch
from torch import Tensor, nn

from networks.q_network import QNetwork, in_full_precision
from networks.torso import ObservationShape, build_torso


class CategoricalNetwork(nn.Module):
    """A distribution over Z fixed returns for every joint action (C51).

    Bellemare et al. 2017, https://arxiv.org/abs/1707.06887. Its Q-value is the mean.
    """

    atoms_Z: Tensor

    def __init__(
        self, *, torso: str, observation_shape: ObservationShape, num_actions: int, num_atoms: int
    ) -> None:
        """Build the network with PyTorch's default initialisation; the atoms are all 0.

        Args:
            torso: a name in `networks.torso.TORSOS`.
            observation_shape: (C, H, W).
            num_actions: size of the joint action set.
            num_atoms: Z. The returns themselves are a buffer that is loaded with the weights, so
                that they are the very numbers the network was trained with.
        """
        super().__init__()
        _check_sizes(num_actions=num_actions, num_atoms=num_atoms)
        self.torso = build_torso(torso, observation_shape)
        self.torso_name = torso
        self.observation_shape = self.torso.observation_shape
        self.num_actions = num_actions
        self.num_atoms = num_atoms
        self.num_features = self.torso.num_features
        self.head = nn.Linear(self.num_features, num_actions * num_atoms)
        self.register_buffer("atoms_Z", torch.zeros(num_atoms))

    def forward(self, observations_BCHW: Tensor) -> Tensor:
        """q_BA, float32, from uint8 observations."""
        return self.forward_with_features(observations_BCHW)[0]

    def forward_with_features(self, observations_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """(q_BA, features_BF), both float32; the features are those after the last ReLU."""
        features_BF = self.torso(observations_BCHW)
        return in_full_precision(self._q_values, features_BF).float(), features_BF.float()

    def _q_values(self, features_BF: Tensor) -> Tensor:
        logits_BAZ = self.head(features_BF).unflatten(1, (self.num_actions, self.num_atoms))
        q_BA: Tensor = (logits_BAZ.softmax(2) * self.atoms_Z).sum(2)
        return q_BA


class PolicyNetwork(nn.Module):
    """Actor and critic on one torso: a logit per joint action, and the state's value."""

    def __init__(
        self, *, torso: str, observation_shape: ObservationShape, num_actions: int
    ) -> None:
        """Build the network with PyTorch's default initialisation.

        Args:
            torso: a name in `networks.torso.TORSOS`.
            observation_shape: (C, H, W).
            num_actions: size of the joint action set.
        """
        super().__init__()
        _check_sizes(num_actions=num_actions)
        self.torso = build_torso(torso, observation_shape)
        self.torso_name = torso
        self.observation_shape = self.torso.observation_shape
        self.num_actions = num_actions
        self.num_features = self.torso.num_features
        self.head = nn.Linear(self.num_features, num_actions)
        self.critic = nn.Linear(self.num_features, 1)

    def forward(self, observations_BCHW: Tensor) -> Tensor:
        """logits_BA, float32, from uint8 observations; the policy is their softmax."""
        return self.forward_with_features(observations_BCHW)[0]

    def forward_with_features(self, observations_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """(logits_BA, features_BF), both float32; the features are those after the last ReLU."""
        features_BF = self.torso(observations_BCHW)
        return in_full_precision(self.head, features_BF).float(), features_BF.float()

    def values(self, features_BF: Tensor) -> Tensor:
        """The critic's values_B, float32, from `forward_with_features`' features."""
        return in_full_precision(self.critic, features_BF).float().squeeze(1)


TeacherNetwork: TypeAlias = QNetwork | CategoricalNetwork | PolicyNetwork
"""Every kind of network that an expert may have."""


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; it must be at least 1")
