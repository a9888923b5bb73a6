"""Which games get more actors and a larger part of the batch: those furthest from their teachers.

Pure functions of what is known of the games; engines/live_control.py carries out what they say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Gt

_ENOUGH = 0.75
"""An actor moves only if both sides are as many off what they should have: more than half, so that
it does not move back at once."""

_SHARE_BAND = 0.2
"""A share changes only if it is off by such a part of itself."""

_ALL_NEAR = 0.02
"""Mean distance below which the games are as good as their teachers, and all count alike."""

_NEW_WEIGHT = 0.2
"""Of the newest look in the running mean of a game's training scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceConfig:
    """Actors and shares of the batch that go where they are needed."""

    enabled: bool = False
    """Whether they do; `--balance` for short."""
    period_s: Annotated[float, Gt(0)] = 60.0
    """Least time between two moves, in seconds."""
    bound: Annotated[float, Ge(1)] = 2.0
    """A game's share is at most so many times what it was given, and at least that part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of one game."""

    distance: float
    """From its teacher: 0 is as good, 1 is as bad as random play."""
    actors: int
    """That it is to have."""
    share: float
    """Relative part of the batch, as now in force."""
    given_share: float
    """The same, as configured."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What to change; a game that is not named stays as it is."""

    actors: dict[str, int] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)


def balance(games: Mapping[str, Standing], *, bound: float) -> Advice:
    """One step towards the balance of these games: at most one actor moves.

    A game's weight is its distance over the mean distance, within `bound`; it should have that part
    of all actors, and that many times the share it was given.
    """
    if not games:
        return Advice()
    mean = sum(game.distance for game in games.values()) / len(games)
    weights = {
        name: min(bound, max(1 / bound, game.distance / mean)) if mean > _ALL_NEAR else 1.0
        for name, game in games.items()
    }
    return Advice(_move_one(games, weights), _new_shares(games, weights))


def _move_one(games: Mapping[str, Standing], weights: Mapping[str, float]) -> dict[str, int]:
    total = sum(game.actors for game in games.values())
    part = total / sum(weights.values())
    missing = {name: part * weights[name] - game.actors for name, game in games.items()}
    receiver = max(missing, key=lambda name: missing[name])
    givers = [name for name, game in games.items() if game.actors > 1]
    if not givers:
        return {}
    giver = min(givers, key=lambda name: missing[name])
    if missing[receiver] < _ENOUGH or missing[giver] > -_ENOUGH:
        return {}
    return {giver: games[giver].actors - 1, receiver: games[receiver].actors + 1}


def _new_shares(games: Mapping[str, Standing], weights: Mapping[str, float]) -> dict[str, float]:
    shares = {name: game.given_share * weights[name] for name, game in games.items()}
    return {
        name: share
        for name, share in shares.items()
        if abs(share / games[name].share - 1.0) > _SHARE_BAND
    }


class Distances:
    """How far each game is from its teacher, from a run's figures as they come.

    Of a test, which is the policy's own; without tests, a running mean of the training episodes.
    """

    def __init__(self, scores: Mapping[str, tuple[float, float] | None]) -> None:
        """`scores`: (random, teacher) of every game; None where they do not tell good from bad."""
        self._scores = dict(scores)
        self._tested: dict[str, float] = {}
        self._returns: dict[str, float] = {}

    def observe(self, row: Mapping[str, float]) -> None:
        """Take in a row of metrics, keys as in docs/metrics.md."""
        for game in self._scores:
            if (score := row.get(f"test/{game}/teacher_normalized")) is not None:
                self._tested[game] = 1.0 - score
            elif (kl := row.get(f"test/{game}/kl")) is not None:
                self._tested[game] = 1.0 - math.exp(-kl)
            if (value := row.get(f"game/{game}/return")) is not None:
                before = self._returns.get(game, value)
                self._returns[game] = before + _NEW_WEIGHT * (value - before)

    def known(self) -> dict[str, float]:
        """Distances from 0 to 1 of the games that can be told."""
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
