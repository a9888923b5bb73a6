"""Figures of single games out of mixed batches."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from learner.game_means import GameMeans, sum_by_game


@dataclass
class Batch:
    """What is asked of a DeviceBatch."""

    games: tuple
    game_counts: tuple

    @property
    def game_index_B(self):
        return torch.tensor(np.repeat(np.arange(len(self.games)), self.game_counts))

    @property
    def loss_weights_B(self):
        return torch.ones(sum(self.game_counts))


def add(means, batch, losses, lags):
    means.add(batch, sum_by_game(batch, {"policy_loss": torch.tensor(losses)}), np.array(lags))


def test_means_are_over_transitions_of_all_batches_and_a_game_without_any_is_left_out():
    means = GameMeans()
    games = ("pong", "boxing", "breakout")
    add(means, Batch(games, (1, 2, 0)), [1.0, 2.0, 4.0], [10, 0, 6])
    add(means, Batch(games, (3, 0, 0)), [3.0, 3.0, 5.0], [20, 20, 30])
    assert means.drain() == {
        "game/pong/policy_loss": 3.0,
        "game/pong/policy_lag": 20.0,
        "game/boxing/policy_loss": 3.0,
        "game/boxing/policy_lag": 3.0,
    }
    assert means.drain() == {}


def test_an_objective_without_figures_of_games_still_has_their_lag():
    means = GameMeans()
    means.add(Batch(("pong",), (2,)), {}, np.array([4, 8]))
    assert means.drain() == {"game/pong/policy_lag": pytest.approx(6.0)}
