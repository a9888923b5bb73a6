"""How a network is: rank of its features, dead units, size of its weights.

They explain why a network that was trained for long may learn a new game worse than a fresh one.

Shape suffixes:
    B  rows of a batch
    F  features
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Part of the singular values' sum that the effective rank leaves out (Kumar et al. 2021).
_LEFT_OUT = 0.01


def effective_rank(features_BF: Tensor) -> float:
    """Fewest singular values that make up 99 % of their sum; at most min(B, F).

    (srank of Kumar et al. 2021, https://arxiv.org/abs/2010.14498, section 3.) 0 for zeros.
    """
    values = torch.linalg.svdvals(features_BF.double())
    total = values.sum()
    if total == 0:
        return 0.0
    return float((values.cumsum(0) < (1 - _LEFT_OUT) * total).sum() + 1)


def dead_share(features_BF: Tensor) -> float:
    """Share of the features that are 0 in every row, as of a ReLU that nothing opens any more."""
    return float((features_BF == 0).all(0).float().mean())


def weight_norm(network: nn.Module) -> float:
    """Euclidean norm of all parameters together."""
    norms = torch.stack([parameter.detach().norm() for parameter in network.parameters()])
    return float(norms.norm())
