"""A network that plays a vector of environments, with what it remembers of each of their episodes.

Shape suffixes:
    B  environments of the vector
    C, H, W  channels, height and width of one observation
    A  joint action set
    M  numbers of one memory; 0 for networks without
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from networks.network import MultitaskNetwork


class Acting:
    """Scores of consecutive states of the same environments; without an LSTM the network's own."""

    def __init__(self, network: nn.Module) -> None:
        """Nothing has been played yet; the network's weights may change while it plays."""
        self._network = network
        self._recurrent: MultitaskNetwork | None = None
        # What is remembered after the last scores: nothing yet, for any number of environments.
        self._next_BM = torch.zeros(0, 0)
        if isinstance(network, MultitaskNetwork) and network.memory is not None:
            self._recurrent, self._next_BM = network, network.memory.begin(1)
        # What the last scores were computed with.
        self.memory_BM = self._next_BM

    def __call__(self, observations_BCHW: Tensor, is_first_B: NDArray[np.bool_]) -> Tensor:
        """scores_BA, float32; where `is_first_B`, an episode begins and nothing is remembered."""
        scores_BA: Tensor
        if self._recurrent is None:
            scores_BA = self._network(observations_BCHW)
            return scores_BA
        is_first_B1 = torch.from_numpy(is_first_B).to(self._next_BM.device).unsqueeze(1)
        self.memory_BM = torch.where(is_first_B1, 0.0, self._next_BM)
        scores_BA, self._next_BM = self._recurrent.look(observations_BCHW, self.memory_BM)
        return scores_BA
