"""When a run counts as recovered from the death of a process, by what it shows of itself.

Pure functions of two looks at a run: before the kill, and now. A process in the dead one's place
is not enough: it must have done something that the run has counted.

| killed    | recovered when                                                                     |
|-----------|------------------------------------------------------------------------------------|
| actor     | another process plays in its place and its steps are counted                       |
| shard     | another process is in its place and the learner has drawn samples from it          |
| learner   | another process, of all replicas, has made updates                                 |
| inference | another process has answered actors                                                |
| redis     | another server holds the run's weights and status; updates have been made since    |
| node      | nothing of the run is on it, and what was has been replaced as above, elsewhere,   |
|           | but for actors that wait for room                                                  |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from records.process_id import RoleProcess

WORKING_ROLES = ("actor", "shard", "learner", "inference")
"""Whose work is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A run as one look shows it."""

    phase: str
    updates: int
    settled: bool
    """Whether every game has the actors that it is to have, or they wait for room."""
    waiting: dict[str, int]
    """Actors that wait for room, by game."""
    faults: dict[str, int]
    processes: tuple[RoleProcess, ...]
    has_weights: bool
    """Whether Redis holds the run's weights."""

    @classmethod
    def of(cls, status: Mapping[str, Any], *, has_weights: bool) -> Standing:
        """What a run's status says.

        Raises:
            ValueError: the run is of a version that says too little.
        """
        if "processes" not in status:
            raise ValueError("the run does not say which processes it has; is it of an old version")
        games = status["games"]
        return cls(
            phase=str(status["phase"]),
            updates=int(status["updates"]),
            settled=all(g["live"] + g["waiting"] == g["wanted"] for g in games.values()),
            waiting={name: int(game["waiting"]) for name, game in games.items()},
            faults={kind: int(number) for kind, number in status["faults"].items()},
            processes=tuple(RoleProcess.from_map(entry) for entry in status["processes"]),
            has_weights=has_weights,
        )

    def of_role(self, role: str) -> list[RoleProcess]:
        """All processes of a role; `actor` means those of all games."""
        return [p for p in self.processes if role in (p.role, p.role.partition("/")[0])]

    @property
    def unready(self) -> str:
        """Why the run is not yet what it is to be, in words; empty if it is."""
        if self.phase != "training":
            return f"it is {self.phase}"
        if not self.settled:
            return "not all of its actors play"
        if not self.has_weights:
            return "its weights are not in Redis"
        idle = [p.place for p in self.processes if p.role.startswith(WORKING_ROLES) and not p.done]
        if idle or not self.of_role("learner") or not self.of_role("shard"):
            return f"{', '.join(idle) or 'learner or replay'} has done nothing yet"
        return ""


def has_recovered(killed: Sequence[RoleProcess], before: Standing, now: Standing) -> bool:
    """Whether everything that was killed works again.

    Args:
        killed: processes that have died together.
        before: the run, shortly before.
        now: the run.
    """
    if now.phase != "training":
        return False
    gone = {target.process for target in killed}
    if any(p.process in gone for p in now.processes):
        return False
    missing = Counter(t.role for t in killed if not _is_replaced(t, before, now))
    # Of a node that is lost, for example; those that have waited before do not count.
    room = {
        f"actor/{game}": waiting - before.waiting.get(game, 0)
        for game, waiting in now.waiting.items()
    }
    return all(number <= room.get(role, 0) for role, number in missing.items())


def _is_replaced(target: RoleProcess, before: Standing, now: Standing) -> bool:
    others = [p for p in now.processes if (p.role, p.rank) == (target.role, target.rank)]
    if target.role == "redis":
        return bool(others) and now.has_weights and now.updates > before.updates
    return any(p.done > 0 for p in others)


def losses(before: Standing, now: Standing) -> dict[str, int]:
    """What the run says that it has lost between two looks."""
    return {
        kind: now.faults.get(kind, 0) - before.faults.get(kind, 0)
        for kind in ("chunks_lost", "transitions_lost")
    }
