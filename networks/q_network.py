"""Q-network of a single game: the experts, and whatever else learns by temporal differences.

It knows nothing of legal actions; masking.py is applied to what comes out.

Shape suffixes:
    B  observations in the batch
    C, H, W  channels, height and width of one observation
    F  features: width of the torso's last hidden layer
    A  joint action set (18 for Atari)
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from networks.torso import ObservationShape, build_torso


class QNetwork(nn.Module):
    """A torso with one Q-value per joint action, optionally dueling."""

    def __init__(
        self,
        *,
        torso: str,
        observation_shape: ObservationShape,
        num_actions: int,
        dueling: bool = False,
    ) -> None:
        """Build the network with PyTorch's default initialisation.

        Args:
            torso: a name in `networks.torso.TORSOS`.
            observation_shape: (C, H, W).
            num_actions: size of the joint action set.
            dueling: Q = V + A - mean(A), from one linear layer each (Wang et al. 2016,
                arXiv:1511.06581, equation 9, without their separate hidden layers). The mean runs
                over the whole joint action set, illegal actions included.
        """
        super().__init__()
        if num_actions < 1:
            raise ValueError(f"num_actions is {num_actions}; a Q-network needs at least one action")
        self.torso = build_torso(torso, observation_shape)
        self.torso_name = torso
        self.observation_shape = self.torso.observation_shape
        self.num_actions = num_actions
        self.num_features = self.torso.num_features
        self.dueling = dueling
        if dueling:
            self.value = nn.Linear(self.num_features, 1)
            self.advantage = nn.Linear(self.num_features, num_actions)
        else:
            self.head = nn.Linear(self.num_features, num_actions)

    def forward(self, observations_BCHW: Tensor) -> Tensor:
        """q_BA, float32, from uint8 observations."""
        return self.forward_with_features(observations_BCHW)[0]

    def forward_with_features(self, observations_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """(q_BA, features_BF), both float32; the features are those after the last ReLU."""
        features_BF = self.torso(observations_BCHW)
        q_BA = in_full_precision(self._q_values, features_BF)
        return q_BA.float(), features_BF.float()

    def _q_values(self, features_BF: Tensor) -> Tensor:
        if not self.dueling:
            q_BA: Tensor = self.head(features_BF)
            return q_BA
        advantages_BA: Tensor = self.advantage(features_BF)
        values_B1: Tensor = self.value(features_BF)
        return values_B1 + advantages_BA - advantages_BA.mean(1, keepdim=True)


def in_full_precision(layer: Callable[[Tensor], Tensor], features_BF: Tensor) -> Tensor:
    """Apply a head outside autocast.

    Neighbouring actions differ by hundredths at Q-values near ten; eight bits of mantissa would
    make them equal. A head costs next to nothing, so it stays in float32.
    """
    if not torch.is_autocast_enabled(features_BF.device.type):
        return layer(features_BF)
    with torch.autocast(features_BF.device.type, enabled=False):
        return layer(features_BF.float())
