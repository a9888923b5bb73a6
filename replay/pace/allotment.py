"""How a batch is divided among the games, in whole transitions.

In plain Python: for a handful of games its numbers are added up before NumPy has begun, the more so
right after megabytes of frames have driven NumPy's code out of the processor's caches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


class BatchAllotment:
    """Divides one batch after the other by the games' shares.

    A share of the batch that is no whole number is rounded up in some batches and down in the
    others, so that every game gets what it is owed in the long run. A game that is short of data
    yields to the others; weights of the loss make up for it.
    """

    def __init__(self, shares: Sequence[float], batch_size: int) -> None:
        """Divide `batch_size` in proportion to `shares`, which need not sum to 1.

        A game with the share 0 only fills up what the others cannot give; one is above 0.
        """
        total = sum(shares)
        self._batch_size = batch_size
        self._shares = [share / total for share in shares]
        exact = [share * batch_size for share in self._shares]
        self._whole = [math.floor(value) for value in exact]
        self._fractions = [value - whole for value, whole in zip(exact, self._whole, strict=True)]
        self._num_odd = batch_size - sum(self._whole)
        # Never one more than its share for a game whose share is a whole number, or 0.
        self._odd_games = [game for game, part in enumerate(self._fractions) if part > 0]
        self._owed = list(self._fractions)
        # [G] Transitions of each game in the next batch, if none is short of data.
        self.wanted = self._round()

    @property
    def most_wanted(self) -> list[int]:
        """[G] The most that a batch may want of each game."""
        return [
            whole + (part > 0) for whole, part in zip(self._whole, self._fractions, strict=True)
        ]

    def _round(self) -> list[int]:
        """Whole shares, and one more for the games that are owed most."""
        wanted = list(self._whole)
        most_owed = sorted(self._odd_games, key=lambda game: -self._owed[game])
        for game in most_owed[: self._num_odd]:
            wanted[game] += 1
        return wanted

    @property
    def owed(self) -> list[float]:
        """[G] Parts of a transition that earlier batches still owe each game, for a snapshot."""
        return list(self._owed)

    @owed.setter
    def owed(self, owed: Sequence[float]) -> None:
        self._owed = list(owed)
        self.wanted = self._round()

    def advance(self) -> None:
        """The next batch was given out: go on to the one after it."""
        for game in self._odd_games:
            self._owed[game] += self._fractions[game] - (self.wanted[game] - self._whole[game])
        self.wanted = self._round()

    def allot(self, allowed: Sequence[int]) -> list[int]:
        """[G] Transitions of each game in the next batch, of each at most what is `allowed`.

        A game gets what is wanted of it, or all of `allowed` if that is less; what is missing then
        is spread evenly over the games that have more. In sum a batch must be allowed.
        """
        counts = [min(pair) for pair in zip(self.wanted, allowed, strict=True)]
        missing = self._batch_size - sum(counts)
        while missing > 0:
            open_games = [game for game, count in enumerate(counts) if count < allowed[game]]
            part = -(-missing // len(open_games))
            for game in open_games:
                # Rounded up, the parts may sum to more than is missing: the last games take less.
                taken = min(part, allowed[game] - counts[game], missing)
                counts[game] += taken
                missing -= taken
        return counts

    def loss_weights(self, counts: Sequence[int]) -> list[float]:
        """[G] Weights that give the games present in a batch their shares again; 0 of the others.

        Their mean over the batch, which has `counts` [G] transitions of each game, is 1.
        """
        shares = [share if n else 0.0 for share, n in zip(self._shares, counts, strict=True)]
        total = sum(shares)
        if not total:
            shares = [1.0 if count else 0.0 for count in counts]
            total = sum(shares)
        return [
            share / total * sum(counts) / max(n, 1) for share, n in zip(shares, counts, strict=True)
        ]
