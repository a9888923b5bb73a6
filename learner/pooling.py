"""A replica's part of a batch, weighted as a part of the whole.

Replay balances the games of what it gives, and importance weights are divided by the largest: both
are of the part that one replica has drawn. Here they become those of the whole batch, so that the
mean over the replicas is what a lone learner would have made of all rows together.

Shape suffixes:
    B  transitions in one replica's part
    G  games
    R  replicas
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from learner.batch import DeviceBatch
from learner.replicas import Replicas


def pool_weights(batch: DeviceBatch, replicas: Replicas) -> DeviceBatch:
    """The same rows, with the weights that they have in the whole batch.

    What all parts together give to a game is spread evenly over all of its rows. Replay gives each
    game the same in every part, its share, however many rows it has there; so this is what it
    would have given to one batch of all rows. Only where a part lacks a game that another one has,
    its share stays with the games that it was given to.

    Waits for the other replicas; one exchange of 2G + 1 numbers.
    """
    if replicas.size == 1:
        return batch
    sums_R2G1 = replicas.gather(_sums(batch))
    weights_G, counts_G = sums_R2G1[:, :-1].sum(0).view(2, len(batch.games))
    # A game without rows has no weight to spread either.
    pooled_G = (weights_G / counts_G.clamp(min=1.0)).float()
    weights_B = pooled_G[batch.game_index_B]
    if batch.sequences is not None:
        weights_B = weights_B * batch.sequences.is_step_B
    return replace(
        batch,
        loss_weights_B=weights_B,
        largest_inverse=sums_R2G1[:, -1].max(),
    )


def _sums(batch: DeviceBatch) -> Tensor:
    """float64 [2G + 1]: loss weights and rows of each game, and the largest 1 / P(i)."""
    weights_B = batch.loss_weights_B.double()
    weights_G = weights_B.new_zeros(len(batch.games)).index_add_(0, batch.game_index_B, weights_B)
    counts_G = weights_B.new_tensor(batch.game_counts)
    if batch.sequences is not None:
        # Rows that only repeat a step have no weight, and get none.
        is_step_B = batch.sequences.is_step_B.double()
        counts_G = torch.zeros_like(counts_G).index_add_(0, batch.game_index_B, is_step_B)
    largest = batch.inverse_probabilities_B.double().max().unsqueeze(0)
    return torch.cat([weights_G, counts_G, largest])
