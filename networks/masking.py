"""Softmax and argmax over the legal actions of a game.

All games of a family share one joint action set; a game accepts some of it. Every probability,
every greedy choice and every gradient stays inside the legal part.

Shape suffixes:
    B  rows in the batch
    A  joint action set
    G  games
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from games.spec import GameSpec


def masked_softmax(logits_BA: Tensor, legal_BA: Tensor) -> Tensor:
    """Softmax over legal actions; illegal ones get exactly 0 and exactly no gradient.

    Args:
        logits_BA: any floating type.
        legal_BA: bool, broadcast against the logits; a row of all False gives nan.
    """
    return logits_BA.masked_fill(~legal_BA, -torch.inf).softmax(-1)


def masked_log_softmax(logits_BA: Tensor, legal_BA: Tensor) -> Tensor:
    """Log-softmax over legal actions; illegal ones get -inf.

    Fill the illegal entries with 0 before multiplying by probabilities: 0 * -inf is nan.
    """
    return logits_BA.masked_fill(~legal_BA, -torch.inf).log_softmax(-1)


def masked_argmax(logits_BA: Tensor, legal_BA: Tensor) -> Tensor:
    """Joint action id of the largest legal logit, int64 [B]; the lowest id wins a tie."""
    return logits_BA.masked_fill(~legal_BA, -torch.inf).argmax(-1)


def legal_matrix(specs: Sequence[GameSpec]) -> Tensor:
    """Bool legal_GA, one row per game in the given order; index it with the game of each row."""
    if not specs:
        raise ValueError("no games were given; name at least one")
    first = specs[0]
    for spec in specs:
        if spec.num_actions != first.num_actions:
            raise ValueError(
                f"{spec.name!r} has {spec.num_actions} joint actions and {first.name!r} has "
                f"{first.num_actions}; one network can only serve games with the same joint "
                "action set"
            )
    return torch.from_numpy(np.stack([spec.legal_mask() for spec in specs]))
