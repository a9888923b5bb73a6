"""Which process carries a role, so that it cannot be mistaken for another one, wherever it is.

A process id alone is used again after its process has ended, and means another process on another
machine or in another container. With the moment of its start and the kernel that counts it, it
names one process for good.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """One process, of all that ever were."""

    pid: int
    """As on its own machine, and in its own container."""
    started: int
    """Clock ticks after the machine's start; 0 where the system does not tell."""
    machine: str
    """Of the machine since it was started, and of the container."""
    node: str = ""
    """Ray's id of the node that it is on; empty outside Ray."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleProcess:
    """The process in one place of a run."""

    role: str
    """`actor/GAME`, `shard`, `learner`, `inference`, `redis` or `coordinator`."""
    rank: int
    """Number of the place among those of the role; kept when its process is replaced."""
    process: ProcessId
    done: int
    """Since the process began: steps of an actor, updates of a learner, samples drawn from a
    shard, states that an inference server has answered; 0 for the others."""

    @property
    def place(self) -> str:
        """The role and, where there may be several, the number."""
        is_alone = self.role in ("inference", "redis", "coordinator")
        return self.role if is_alone else f"{self.role} {self.rank}"

    def to_map(self) -> dict[str, Any]:
        """As it is shown in a run's status."""
        return {
            "role": self.role,
            "rank": self.rank,
            "done": self.done,
            **asdict(self.process),
        }

    @classmethod
    def from_map(cls, entry: Mapping[str, Any]) -> RoleProcess:
        """What `to_map` has made."""
        return cls(
            role=str(entry["role"]),
            rank=int(entry["rank"]),
            done=int(entry["done"]),
            process=ProcessId(
                pid=int(entry["pid"]),
                started=int(entry["started"]),
                machine=str(entry["machine"]),
                node=str(entry["node"]),
            ),
        )


def find_process(pid: int, *, node: str = "") -> ProcessId | None:
    """The process that has this id here and now; None if there is none."""
    if not Path("/proc/self/stat").exists():
        return ProcessId(pid=pid, started=0, machine=this_machine(), node=node)
    with suppress(OSError, ValueError, IndexError):
        # The second field, a name in parentheses, may hold anything, also spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] not in ("Z", "X"):  # One that has ended and only waits to be noticed.
            return ProcessId(pid=pid, started=int(fields[19]), machine=this_machine(), node=node)
    return None


def own_process(*, node: str = "") -> ProcessId:
    """This process."""
    process = find_process(os.getpid(), node=node)
    assert process is not None
    return process


@cache
def this_machine() -> str:
    """Changes with every start of the machine, and is another one in every container."""
    parts = [os.uname().nodename]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
