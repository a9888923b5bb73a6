"""Parts of a batch that are weighted as parts of the whole."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replica_runs import BATCH_WEIGHT, concatenated, make_part

from learner.batch import BatchLoader, pool_weights
from learner.losses import importance_weights

load = BatchLoader(torch.device("cpu"), gamma=0.9, reward_clip=1.0)


class Recorded:
    """One of several replicas, with what the others have said before."""

    rank = 0

    def __init__(self, said):
        self.said = said
        self.size = len(said)
        self.own = None

    def gather(self, tensor):
        self.own = tensor
        return torch.stack([tensor if other is None else other for other in self.said])


def pool_all(parts):
    """Every part as its replica would use it."""
    batches = [load(part) for part in parts]
    said = []
    for batch in batches:
        listening = Recorded([None, None])
        pool_weights(batch, listening)
        said.append(listening.own)
    return [pool_weights(batch, Recorded(said)) for batch in batches]


def rows_by_game(batches, column):
    """A column of all batches, game by game, as in one batch of all rows."""
    games = torch.cat([batch.game_index_B for batch in batches])
    values = torch.cat([column(batch) for batch in batches])
    return values[torch.argsort(games, stable=True)]


@st.composite
def counts_of_parts(draw):
    """Rows of two games in parts of one size, each with some of both."""
    size = draw(st.integers(2, 12))
    first = draw(st.lists(st.integers(1, size - 1), min_size=2, max_size=5))
    return [(count, size - count) for count in first]


@given(counts=counts_of_parts(), seed=st.integers(0, 1_000))
@settings(max_examples=40, deadline=None)
def test_pooled_weights_are_those_of_one_batch_of_all_rows(counts, seed):
    parts = [make_part(seed + rank, part) for rank, part in enumerate(counts)]
    pooled, whole = pool_all(parts), load(concatenated(parts))
    torch.testing.assert_close(
        rows_by_game(pooled, lambda batch: batch.loss_weights_B),
        whole.loss_weights_B,
        rtol=1e-6,
        atol=0,
    )
    torch.testing.assert_close(
        rows_by_game(
            pooled,
            lambda batch: importance_weights(
                batch.inverse_probabilities_B, 0.7, largest=batch.largest_inverse
            ),
        ),
        importance_weights(whole.inverse_probabilities_B, 0.7),
        rtol=0,
        atol=0,
    )


def test_a_part_without_one_of_the_games_keeps_the_mean_weight():
    pooled = pool_all([make_part(0, (8, 0)), make_part(1, (2, 6))])
    weights = rows_by_game(pooled, lambda batch: batch.loss_weights_B).numpy()
    np.testing.assert_allclose(weights.mean(), BATCH_WEIGHT, rtol=1e-6)
    assert len(np.unique(weights[:10])) == len(np.unique(weights[10:])) == 1
    # 8 rows of weight 1 each and a quarter of the other 8; then the other three quarters.
    np.testing.assert_allclose(weights[0], BATCH_WEIGHT * (8 + 2) / 10, rtol=1e-6)
    np.testing.assert_allclose(weights[-1], BATCH_WEIGHT * 6 / 6, rtol=1e-6)


def test_a_game_without_rows_anywhere_makes_no_weight_infinite():
    pooled = pool_all([make_part(0, (4, 0)), make_part(1, (4, 0))])
    for batch in pooled:
        np.testing.assert_allclose(batch.loss_weights_B.numpy(), BATCH_WEIGHT, rtol=1e-6)
