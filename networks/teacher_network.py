"""The network that only teachers have: a distribution over fixed returns for every action.

All other teachers are a MultitaskNetwork of one game. Both kinds share `forward`, which judges the
joint actions, and `forward_with_features`, which also gives the last hidden layer.

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

from networks.heads import in_full_precision
from networks.network import MultitaskNetwork
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
        if num_actions < 1 or num_atoms < 1:
            raise ValueError(
                f"{num_actions} actions and {num_atoms} atoms were asked for; "
                "a network needs at least one of each"
            )
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


# Every kind of network that an expert may have.
TeacherNetwork: TypeAlias = MultitaskNetwork | CategoricalNetwork


def build_teacher_network(
    *,
    torso: str,
    observation_shape: ObservationShape,
    num_actions: int,
    num_atoms: int | None = None,
    dueling: bool = False,
    has_critic: bool = False,
) -> TeacherNetwork:
    """A network with a distribution of so many atoms, or else one of means."""
    if num_atoms is not None:
        return CategoricalNetwork(
            torso=torso,
            observation_shape=observation_shape,
            num_actions=num_actions,
            num_atoms=num_atoms,
        )
    return MultitaskNetwork(
        torso=torso,
        observation_shape=observation_shape,
        num_actions=num_actions,
        dueling=dueling,
        has_critic=has_critic,
    )
