"""What single games have of a batch's figures: sums on the device, means when they are asked for.

Shape suffixes:
    B  transitions in the batch, ordered by game
    G  games
    T  terms
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from learner.batch import DeviceBatch

# Name of the numbers of transitions among the sums.
ROWS = "rows"


def sum_by_game(
    batch: DeviceBatch, terms_B: Mapping[str, Tensor], *, counts_B: Tensor | None = None
) -> dict[str, Tensor]:
    """float32 [G] for each term, detached, and the numbers of transitions; never waits.

    `counts_B` is 1 for rows that count and 0 for those that fill sequences up; None: all count.
    """
    counts_B = torch.ones_like(batch.loss_weights_B) if counts_B is None else counts_B
    terms = [counts_B * term_B.detach().float() for term_B in terms_B.values()]
    rows_TB = torch.stack([counts_B, *terms])
    sums_TG = rows_TB.new_zeros(len(rows_TB), len(batch.games))
    sums_TG.index_add_(1, batch.game_index_B, rows_TB)
    return dict(zip([ROWS, *terms_B], sums_TG.unbind(), strict=True))


class GameMeans:
    """Means over each game's transitions since the last `drain`."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self._games: tuple[str, ...] = ()
        self._sums_G: dict[str, Tensor] = {}
        self._lags_G: NDArray[Any] = np.zeros(0)
        self._counts_G: NDArray[Any] = np.zeros(0)

    def add(
        self, batch: DeviceBatch, sums_G: Mapping[str, Tensor], lag_B: NDArray[np.int64]
    ) -> None:
        """Take in an objective's sums, with the numbers of transitions, and ages of policies."""
        for name, sum_G in sums_G.items():
            previous = self._sums_G.get(name)
            self._sums_G[name] = sum_G if previous is None else previous + sum_G
        counts_G = np.asarray(batch.game_counts)
        games_B = np.repeat(np.arange(len(counts_G)), counts_G)
        lags_G = np.bincount(games_B, weights=lag_B, minlength=len(counts_G))
        if self._games != batch.games:
            self._games = batch.games
            self._lags_G, self._counts_G = np.zeros(len(counts_G)), np.zeros(len(counts_G))
        self._lags_G = self._lags_G + lags_G
        self._counts_G = self._counts_G + counts_G

    def drain(self) -> dict[str, float]:
        """`game/GAME/TERM` and `game/GAME/policy_lag`; games without a transition are left out."""
        means: dict[str, float] = {}
        sums = {name: sum_G.tolist() for name, sum_G in self._sums_G.items()}
        rows_G = sums.pop(ROWS, [])
        for index, game in enumerate(self._games):
            if self._counts_G[index]:
                lag = self._lags_G[index] / self._counts_G[index]
                means[f"game/{game}/policy_lag"] = float(lag)
            if rows_G and rows_G[index]:
                for name, sum_G in sums.items():
                    means[f"game/{game}/{name}"] = sum_G[index] / rows_G[index]
        self._games, self._sums_G = (), {}
        return means
