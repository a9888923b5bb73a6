"""How a batch is divided among the games, in whole transitions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from replay.types import Float32Array, Float64Array, Int64Array


class BatchAllotment:
    """Divides one batch after the other by the games' shares.

    A share of the batch that is no whole number is rounded up in some batches and down in the
    others, so that every game gets what it is owed in the long run. A game that is short of data
    yields to the others; weights of the loss make up for it.
    """

    def __init__(self, shares: Sequence[float], batch_size: int) -> None:
        """Divide `batch_size` in proportion to `shares`, which need not sum to 1.

        ValueError for a share that is not positive and finite.
        """
        weights = np.array(shares, np.float64)
        if not np.all((weights > 0) & (weights < np.inf)):
            raise ValueError(f"shares of the batch must be positive and finite, got {list(shares)}")
        self._batch_size = batch_size
        self._shares: Float64Array = weights / weights.sum()
        exact = self._shares * batch_size
        self._whole = np.floor(exact).astype(np.int64)
        self._fractions: Float64Array = exact - self._whole
        self._num_odd = batch_size - int(self._whole.sum())
        self._owed: Float64Array = self._fractions.copy()
        self.wanted: Int64Array = self._round()
        """[G] Transitions of each game in the next batch, if none is short of data."""

    @property
    def most_wanted(self) -> Int64Array:
        """[G] The most that a batch may want of each game."""
        most: Int64Array = self._whole + (self._fractions > 0)
        return most

    def _round(self) -> Int64Array:
        """Whole shares, and one more for the games that are owed most."""
        wanted: Int64Array = self._whole.copy()
        wanted[np.argsort(-self._owed, kind="stable")[: self._num_odd]] += 1
        return wanted

    def advance(self) -> None:
        """The next batch was given out: go on to the one after it."""
        self._owed += self._fractions - (self.wanted - self._whole)
        self.wanted = self._round()

    def allot(self, allowed: Int64Array) -> Int64Array:
        """[G] Transitions of each game in the next batch.

        A game gets what is wanted of it, or all of `allowed` if that is less; what is missing then
        is spread evenly over the games that have more.

        Args:
            allowed: int64 [G], the most that may be drawn of each game; its sum must be at least
                the batch size.
        """
        counts: Int64Array = np.minimum(self.wanted, allowed)
        missing = self._batch_size - int(counts.sum())
        while missing > 0:
            room = allowed - counts
            open_games = np.flatnonzero(room)
            take = np.minimum(room[open_games], -(-missing // len(open_games)))
            # Rounded up, the parts may sum to more than is missing: the last games take less.
            take = np.diff(np.minimum(np.cumsum(take), missing), prepend=0)
            counts[open_games] += take
            missing -= int(take.sum())
        return counts

    def loss_weights(self, counts: Int64Array) -> Float32Array:
        """[G] Weights that give the games present in a batch their shares again.

        Their mean over the transitions of the batch is 1.

        Args:
            counts: int64 [G], transitions of each game in the batch.
        """
        present = counts > 0
        balance = self._shares / self._shares[present].sum() * self._batch_size
        weights: Float32Array = (balance / np.maximum(counts, 1)).astype(np.float32)
        return weights
