"""Which games get more actors and a larger part of the batch: those furthest from their teachers.

Pure functions of what is known of the games; engines/live_control.py carries out what they say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Gt

# An actor moves only if giver and receiver are both this many actors off their targets. Half an
# actor would let it move back at once.
_LEAST_SURPLUS = 0.75

# A share changes only if it is off its target by this fraction of itself, so that replay is not
# reconfigured for noise.
_SHARE_TOLERANCE = 0.2

# Below this mean distance every game is as good as its teacher, and the ratios of distances that
# weights are made of would be ratios of noise.
_SMALLEST_MEAN_DISTANCE = 0.02

# Weight of the newest value in the running mean of a game's training returns.
_NEWEST_WEIGHT = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceConfig:
    """Moving actors and shares of the batch to the games furthest from their teachers."""

    enabled: bool = False
    """Whether anything moves by itself; `--balance` for short."""
    period_s: Annotated[float, Gt(0)] = 60.0
    """Least time between two moves, in seconds."""
    bound: Annotated[float, Ge(1)] = 2.0
    """A game's share is at most so many times what it was given, and at least that part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GameLoad:
    """What one game has now, and how far it is from its teacher."""

    # Distance from the teacher's score: 0 is as good, 1 is as bad as random play.
    distance: float
    # Actors that the game is to have.
    actors: int
    # Relative part of the batch that is in force now.
    share: float
    # Relative part of the batch in the configuration.
    given_share: float


@dataclass(frozen=True, slots=True)
class Advice:
    """New numbers of actors and new shares; a game that is not named stays as it is."""

    actors: dict[str, int] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)


def balance(games: Mapping[str, GameLoad], *, bound: float) -> Advice:
    """Advise one step towards the balance of these games, in which at most one actor moves.

    A game's weight is its distance over the mean distance, within `bound`; it should have that part
    of all actors, and that many times the share it was given.
    """
    if not games:
        return Advice()
    mean = sum(game.distance for game in games.values()) / len(games)
    weights = {
        name: min(bound, max(1 / bound, game.distance / mean))
        if mean > _SMALLEST_MEAN_DISTANCE
        else 1.0
        for name, game in games.items()
    }
    return Advice(_move_one(games, weights), _new_shares(games, weights))


def _move_one(games: Mapping[str, GameLoad], weights: Mapping[str, float]) -> dict[str, int]:
    total = sum(game.actors for game in games.values())
    part = total / sum(weights.values())
    missing = {name: part * weights[name] - game.actors for name, game in games.items()}
    receiver = max(missing, key=lambda name: missing[name])
    givers = [name for name, game in games.items() if game.actors > 1]
    if not givers:
        return {}
    giver = min(givers, key=lambda name: missing[name])
    if missing[receiver] < _LEAST_SURPLUS or missing[giver] > -_LEAST_SURPLUS:
        return {}
    return {giver: games[giver].actors - 1, receiver: games[receiver].actors + 1}


def _new_shares(games: Mapping[str, GameLoad], weights: Mapping[str, float]) -> dict[str, float]:
    shares = {name: game.given_share * weights[name] for name, game in games.items()}
    return {
        name: share
        for name, share in shares.items()
        if abs(share / games[name].share - 1.0) > _SHARE_TOLERANCE
    }


class Distances:
    """Tracks how far each game is from its teacher, from a run's metrics as they come.

    The newest test counts, since it plays the policy itself; before the first test, a running mean
    of the training episodes, which explore.
    """

    def __init__(self, scores: Mapping[str, tuple[float, float] | None]) -> None:
        """Measure by `scores`: (random, teacher) of each game, None where the two are alike."""
        self._scores = dict(scores)
        self._tested: dict[str, float] = {}
        self._returns: dict[str, float] = {}

    def observe(self, row: Mapping[str, float]) -> None:
        """Update the distances from one row of metrics, with the keys of docs/metrics.md."""
        for game in self._scores:
            if (score := row.get(f"test/{game}/teacher_normalized")) is not None:
                self._tested[game] = 1.0 - score
            elif (kl := row.get(f"test/{game}/kl")) is not None:
                self._tested[game] = 1.0 - math.exp(-kl)
            if (value := row.get(f"game/{game}/return")) is not None:
                before = self._returns.get(game, value)
                self._returns[game] = before + _NEWEST_WEIGHT * (value - before)

    def known(self) -> dict[str, float]:
        """Distance of each game that has been measured, within 0 and 1."""
        distances = {game: self._distance(game) for game in self._scores}
        return {game: min(1.0, max(0.0, x)) for game, x in distances.items() if x is not None}

    def _distance(self, game: str) -> float | None:
        if game in self._tested:
            return self._tested[game]
        scores = self._scores[game]
        if scores is None or game not in self._returns:
            return None
        low, high = scores
        return 1.0 - (self._returns[game] - low) / (high - low)
