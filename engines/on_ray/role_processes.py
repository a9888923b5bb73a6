"""Names of a run's processes in Ray's table of actors, and the way back from there to processes.

The table knows for every living process its pid and its node, so nobody has to report them.
"""

from __future__ import annotations

import itertools
import secrets
from dataclasses import dataclass

from engines.on_ray.ray_internals import named_processes


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleProcess:
    """The process in one place of a run."""

    # `actor/GAME`, `shard`, `learner` or `inference`.
    role: str
    # Number of the place among those of the role; kept when its process is replaced.
    rank: int
    # On its own node; 0 before it has a process.
    pid: int
    # Ray's id of the node.
    node: str

    @property
    def place(self) -> str:
        """The role and, where there may be several, the number."""
        return self.role if self.role == "inference" else f"{self.role} {self.rank}"


class RoleNames:
    """Gives every process of one session of a run a name that no other process has had."""

    def __init__(self, run: str) -> None:
        """`run`: the run's name in Redis, which has no colon in it."""
        # Ray frees a name a moment after its process has ended: nothing may wait for that.
        self._prefix = f"{run}:{secrets.token_hex(4)}"
        self._numbers = itertools.count()

    def new(self, role: str, rank: int) -> str:
        """A name for the next process in this place."""
        return f"{self._prefix}:{role}:{rank}:{next(self._numbers)}"


def find_processes(run: str, *, are_up: bool = True) -> list[RoleProcess]:
    """All processes of a run, by place, that are up, or still to come up, on the Ray joined."""
    found = []
    for entry in named_processes():
        owner, *rest = entry.name.split(":")
        if owner == run and len(rest) == 4 and entry.is_up == are_up:
            found.append(
                RoleProcess(role=rest[1], rank=int(rest[2]), pid=entry.pid, node=entry.node)
            )
    return sorted(found, key=lambda process: (process.role, process.rank))
