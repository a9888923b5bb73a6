"""Processes of this machine as benchmarks see them: what roles use and hold, and what they leave.

psutil reads them (records/machine.py); a process may end between any two questions. Proportional
memory comes from /proc/PID/smaps_rollup, which psutil does not split: pages of program files are
left out of it, since how many others share them changes with what else runs on the machine.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from records.machine import cpu_seconds, family_of, title_of

# Role by the title that Ray gives to a process (engines/on_ray/cluster.py and Ray's own).
_ROLES = {
    "ray::ActorProcess": "actors",
    "ray::LearnerProcess": "learner",
    "ray::ShardProcess": "shards",
    "ray::InferenceProcess": "inference",
    "ray::DashboardAgent": "ray_agents",
    "ray::RuntimeEnvAgent": "ray_agents",
    # Idle ones, and those that run a test.
    "ray::": "ray_workers",
}
_PROGRAMS = {
    "redis-server": "redis",
    "valkey-server": "redis",
    "gcs_server": "ray_gcs",
    "raylet": "ray_raylet",
}
# Part of the title of Ray's monitors and agents, which are Python programs of its package.
_OF_RAY = "/ray/"
LAUNCHER = "launcher"
# Ray's own processes, Redis, and this one.
REST = "rest"
_SHM = "/dev/shm/"


def role_of(title: str) -> str:
    """The role of a process by what `ps` shows of it."""
    for prefix, role in _ROLES.items():
        if title.startswith(prefix):
            return role
    program = title.split(" ", 1)[0].rsplit("/", 1)[-1]
    return _PROGRAMS.get(program, "ray_agents" if _OF_RAY in title else "others")


def cpu_by_role() -> dict[str, float]:
    """CPU seconds so far of actors, learner, shards and REST, below this process and alive now.

    Unlike the clock, they hardly depend on what else the machine is doing.
    """
    used: defaultdict[str, float] = defaultdict(float)
    for process in family_of(os.getpid()):
        role = role_of(title_of(process.pid))
        used[role if role in ("actors", "learner", "shards") else REST] += cpu_seconds(process)
    return dict(used)


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """What one process holds."""

    pid: int
    # All of its memory, with what it shares with others.
    resident_bytes: int
    # The part of it that others may map, too: program files, Ray's object store, slots of
    # batches.
    shared_bytes: int
    num_descriptors: int
    num_threads: int

    @property
    def own_bytes(self) -> int:
        """Memory that nobody else has mapped: tables and everything else of its own."""
        return self.resident_bytes - self.shared_bytes


def read_process(pid: int) -> ProcessReading:
    """Read what a process holds; raises psutil.NoSuchProcess if there is none."""
    process = psutil.Process(pid)
    memory = process.memory_info()
    return ProcessReading(
        pid, memory.rss, getattr(memory, "shared", 0), process.num_fds(), process.num_threads()
    )


@dataclass(slots=True)
class RoleReading:
    """All processes of a role at one moment."""

    processes: int = 0
    # Proportional (PSS) without pages of files: a page that n processes share counts as one n-th
    # in each, so that the sum over all roles is what the run takes.
    memory_bytes: int = 0
    descriptors: int = 0
    threads: int = 0

    def add(self, other: RoleReading) -> None:
        """Count another reading in."""
        self.processes += other.processes
        self.memory_bytes += other.memory_bytes
        self.descriptors += other.descriptors
        self.threads += other.threads


@dataclass(slots=True)
class Family:
    """A launcher and everything below it, from its start to after its end; Linux only."""

    # Process id of the launcher.
    root: int
    # Variable in the environment of all of them, also of those that lose their parent.
    mark: tuple[str, str]
    # Every process that was ever read; psutil tells a number given twice apart by its start.
    seen: set[Any] = field(default_factory=set)

    def read(self) -> dict[str, RoleReading]:
        """Everything by role, as of now, and all of it together as `all`."""
        readings: defaultdict[str, RoleReading] = defaultdict(RoleReading)
        for process in family_of(self.root):
            with suppress(psutil.Error, OSError, KeyError):
                role = LAUNCHER if process.pid == self.root else role_of(title_of(process.pid))
                memory = _proportional_bytes(process.pid)
                found = RoleReading(1, memory, process.num_fds(), process.num_threads())
                readings[role].add(found)
                readings["all"].add(found)
                self.seen.add(process)
        return dict(readings)

    def living(self) -> list[Any]:
        """Processes that are alive and were seen before, or bear the mark.

        Zombies hold nothing and wait for whoever inherited them.
        """
        return [p for p in psutil.process_iter() if p.pid != os.getpid() and self._is_alive(p)]

    def _is_alive(self, process: Any) -> bool:
        with suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE:
                return process in self.seen or process.environ().get(self.mark[0]) == self.mark[1]
        return False


def _proportional_bytes(pid: int) -> int:
    text = Path("/proc", str(pid), "smaps_rollup").read_text()
    kib = dict(re.findall(r"(?m)^(\w+):\s+(\d+) kB$", text))
    return 1024 * sum(int(kib[name]) for name in ("Pss_Anon", "Pss_Shmem", "SwapPss"))


def shared_files() -> set[str]:
    """Names in /dev/shm."""
    with suppress(OSError):
        return set(os.listdir(_SHM))
    return set()


def abandoned_shared_files(before: Iterable[str]) -> list[str]:
    """Names in /dev/shm that were not there before and that no living process has open or mapped.

    Others may come and go on a machine that several programs use.
    """
    new = shared_files() - set(before)
    if not new:
        return []
    held: set[str] = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            held |= {file.path for file in process.open_files()}
            held |= {mapping.path for mapping in process.memory_maps()}
    return sorted(new - {path.removeprefix(_SHM) for path in held})
