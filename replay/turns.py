"""Whose turn it is to insert when there is not room for all: by share, whoever has most actors."""

from __future__ import annotations

from collections.abc import Sequence


class Turns:
    """Fair queueing of the games that wait.

    A chunk takes `size / share` of virtual time, and goes where the one before of its game ended;
    what waits with an earlier time goes first (start-time fair queueing, Goyal et al. 1997,
    https://doi.org/10.1109/90.649569). A game that was away does not catch up on what it missed.
    """

    def __init__(self, num_games: int) -> None:
        """All alike."""
        self._now = 0.0
        self._next = [0.0] * num_games

    def count(self, game: int, cost: float) -> None:
        """A chunk of a game was stored; its size over the game's share."""
        self._now = self._start(game)
        self._next[game] = self._now + cost

    def _start(self, game: int) -> float:
        return max(self._now, self._next[game])

    def is_turn_of(self, game: int, waiting: Sequence[int]) -> bool:
        """Whether none of the games that wait comes before this one."""
        start = self._start(game)
        return all(self._start(other) >= start for other in waiting)
