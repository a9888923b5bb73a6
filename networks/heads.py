"""The arithmetic of what is put on top of a torso.

Heads stay in float32 even where the torso computes in bfloat16.

Shape suffixes:
    B  observations in the batch
    F  features: width of the torso's last hidden layer
    H  heads: 1 for all games, or one for each
    A  joint action set (18 for Atari)
    Z  quantiles of a return distribution; 1 where only its mean is known
"""

from collections.abc import Callable

import torch
from torch import Tensor


def combine_streams(values_BH1Z: Tensor, advantages_BHAZ: Tensor) -> Tensor:
    """Q-values of a dueling head, Q = V + A - mean(A), as [B, H, A, Z].

    (Wang et al. 2016, https://arxiv.org/abs/1511.06581, equation 9, without their separate hidden
    layers.) The mean runs over the whole joint action set, illegal actions included.
    """
    return values_BH1Z + advantages_BHAZ - advantages_BHAZ.mean(2, keepdim=True)


def in_full_precision(layer: Callable[[Tensor], Tensor], features_BF: Tensor) -> Tensor:
    """Apply a head outside autocast; the result is float32 for float32 weights.

    Neighbouring actions differ by hundredths at Q-values near ten; eight bits of mantissa would
    make them equal. A head costs next to nothing, so it stays in float32.
    """
    if not torch.is_autocast_enabled(features_BF.device.type):
        return layer(features_BF)
    with torch.autocast(features_BF.device.type, enabled=False):
        return layer(features_BF.float())
