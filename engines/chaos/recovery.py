"""When a run counts as recovered from a kill, by what it shows of itself.

A process in the dead one's place is not enough: the run must have noticed the death, must have all
that it is to have, and must have gone on working since.

| killed    | noticed by       | works when                                                        |
|-----------|------------------|-------------------------------------------------------------------|
| actor     | actor_restarts   | all actors of its game play, and steps of the game are counted    |
| shard     | shard_restarts   | updates have been made since the new one has answered             |
| learner   | learner_restarts | the new one has made updates                                      |
| inference | inference_restarts | steps have been played since the new one has answered           |
| redis     | redis_restarts   | it holds the run's weights and status, and updates have been made |
| node      | all of its roles | nothing of the run is on it; as above, but for actors that wait   |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# Counters of a run that say what a death has cost.
LOSSES = ("chunks_lost", "transitions_lost", "updates_lost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A run as one look at its status shows it."""

    phase: str
    updates: int
    # By game.
    steps: Mapping[str, int]
    # Whether every game has the actors that it is to have, or they wait for room.
    settled: bool
    faults: Mapping[str, int]
    # Whether Redis holds the run's weights.
    has_weights: bool
    # Of the launcher.
    host: str
    # Of the launcher.
    pid: int
    # Of a Redis that the run has started itself.
    redis_pid: int | None
    # Address of the Ray that carries the run.
    ray: str

    @classmethod
    def of(cls, status: Mapping[str, Any], *, has_weights: bool) -> Standing:
        """What a run's status says; ValueError if it is of a version that says too little."""
        try:
            games = status["games"]
            return cls(
                phase=str(status["phase"]),
                updates=int(status["updates"]),
                steps={name: int(game["steps"]) for name, game in games.items()},
                settled=all(g["live"] + g["waiting"] == g["wanted"] for g in games.values()),
                faults={kind: int(number) for kind, number in status["faults"].items()},
                has_weights=has_weights,
                host=str(status["host"]),
                pid=int(status["pid"]),
                redis_pid=status["redis_pid"],
                ray=str(status["ray"]),
            )
        except KeyError as error:
            raise ValueError(f"the run's status lacks {error}; is it of another version") from None

    @property
    def unready(self) -> str:
        """Why the run is not yet what it is to be, in words; empty if it is."""
        if self.phase != "training":
            return f"it is {self.phase}"
        if not self.settled:
            return "not all of its actors play"
        if not self.has_weights:
            return "its weights are not in Redis"
        if idle := [game for game, steps in self.steps.items() if not steps]:
            return f"{', '.join(idle)} has not been played yet"
        return "" if self.updates else "it has made no update yet"


class Recovery:
    """Follows a run from before a kill until everything that was killed works again."""

    def __init__(self, roles: Iterable[str], before: Standing) -> None:
        """`roles`: of the processes that die together, as `actor/GAME`, `shard`, ... or `redis`."""
        self._roles = tuple(roles)
        self._before = before
        self._mended: Standing | None = None

    def is_over(self, now: Standing) -> bool:
        """Whether all works again, as of this look."""
        if now.phase != "training" or not now.settled or not now.has_weights:
            return False
        if not self._is_noticed(now):
            return False
        if self._mended is None:
            self._mended = now
        return self._has_worked_since(self._mended, now)

    def _is_noticed(self, now: Standing) -> bool:
        kinds = Counter(f"{role.partition('/')[0]}_restarts" for role in self._roles)
        # Learners live and die together: several count as one.
        return all(
            now.faults.get(kind, 0) - self._before.faults.get(kind, 0)
            >= (1 if kind == "learner_restarts" else number)
            for kind, number in kinds.items()
        )

    def _has_worked_since(self, mended: Standing, now: Standing) -> bool:
        games = {role.partition("/")[2] for role in self._roles if role.startswith("actor/")}
        if "inference" in self._roles:
            games |= set(now.steps)
        updates = [role for role in self._roles if role in ("shard", "learner", "redis")]
        return all(now.steps[game] > mended.steps[game] for game in games) and (
            not updates or now.updates > mended.updates
        )


def losses(before: Standing, now: Standing) -> dict[str, int]:
    """What the run says that it has lost between two looks."""
    return {kind: now.faults.get(kind, 0) - before.faults.get(kind, 0) for kind in LOSSES}
