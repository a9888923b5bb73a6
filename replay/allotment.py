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

        A game with the share 0 only fills up what the others cannot give. ValueError for a share
        that is negative or not finite, or if there is none above 0.
        """
        weights = np.array(shares, np.float64)
        if not (np.all((weights >= 0) & (weights < np.inf)) and weights.any()):
            raise ValueError(
                "shares of the batch must be finite, not negative and not all 0, got "
                f"{list(shares)}"
            )
        self._batch_size = batch_size
        self._shares: Float64Array = weights / weights.sum()
        exact = self._shares * batch_size
        self._whole = np.floor(exact).astype(np.int64)
        self._fractions: Float64Array = exact - self._whole
        self._num_odd = batch_size - int(self._whole.sum())
        # Never one more than its share for a game whose share is a whole number, or 0.
        self._odd_games = np.flatnonzero(self._fractions > 0).tolist()
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
        owed = self._owed.tolist()
        # A handful of numbers: Python sorts them before NumPy has begun.
        most_owed = sorted(self._odd_games, key=lambda game: -owed[game])
        wanted[most_owed[: self._num_odd]] += 1
        return wanted

    @property
    def owed(self) -> Float64Array:
        """[G] Parts of a transition that earlier batches still owe each game, for a snapshot."""
        return self._owed.copy()

    @owed.setter
    def owed(self, owed: Float64Array) -> None:
        self._owed = owed.copy()
        self.wanted = self._round()

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
        """[G] Weights that give the games present in a batch their shares again; 0 of the others.

        Their mean over the transitions of the batch is 1.

        Args:
            counts: int64 [G], transitions of each game in the batch.
        """
        shares = self._shares * (counts > 0)
        if not shares.any():
            shares = (counts > 0).astype(np.float64)
        balance = shares / shares.sum() * self._batch_size
        weights: Float32Array = (balance / np.maximum(counts, 1)).astype(np.float32)
        return weights
