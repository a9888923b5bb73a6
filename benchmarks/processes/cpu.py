"""CPU time of this process and of all that it has started, by role.

Unlike the clock, it hardly depends on what else the machine is doing.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_ROLES = {
    "ray::ActorProcess": "actors",
    "ray::LearnerProcess": "learner",
    "ray::ShardProcess": "shards",
}
"""By the titles that Ray gives to its processes (classes of engines/on_ray/cluster.py)."""
REST = "rest"
"""Ray's own processes, Redis, and this one."""


@dataclass(frozen=True, slots=True)
class _Process:
    parent: int
    cpu_s: float
    title: str


def cpu_seconds() -> dict[str, float]:
    """CPU seconds so far of actors, learner, shards and the rest, of processes alive now.

    Empty where there is no /proc. Processes of another Ray than one started here are not seen.
    """
    processes = _read_all()
    used: defaultdict[str, float] = defaultdict(float)
    for pid in _descendants(os.getpid(), processes):
        process = processes[pid]
        used[_role(process.title)] += process.cpu_s
    return dict(used)


def _descendants(root: int, processes: dict[int, _Process]) -> list[int]:
    """`root` and everything below it."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for pid, process in processes.items():
        children[process.parent].append(pid)
    found = [root] if root in processes else []
    for pid in found:
        found += children[pid]
    return found


def _role(title: str) -> str:
    return next((role for prefix, role in _ROLES.items() if title.startswith(prefix)), REST)


def _read_all() -> dict[int, _Process]:
    processes = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name in brackets may hold anything; what follows the last bracket is numbers.
            numbers = (folder / "stat").read_text().rpartition(")")[2].split()
            title = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue  # It has ended meanwhile, or is not ours to look at.
        ticks = int(numbers[11]) + int(numbers[12])
        processes[int(folder.name)] = _Process(int(numbers[1]), ticks / _TICKS_PER_S, title)
    return processes
