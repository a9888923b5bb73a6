"""What the processes of a run hold, by role, and what of it is left when they have ended.

From /proc: proportional memory of each process (a page that n processes share counts as a n-th in
each, so that the sum over all is what the run takes), descriptors, threads, sockets and files in
/dev/shm. Pages of program files are left out: how many others share them changes with what else
runs on the machine. Linux only.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

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
"""By the titles that Ray gives to its processes (classes of launch/, and its own)."""
_PROGRAMS = {
    "redis-server": "redis",
    "valkey-server": "redis",
    "gcs_server": "ray_gcs",
    "raylet": "ray_raylet",
}
_OF_RAY = "/ray/"
"""In the title of its monitors and agents, which are Python programs of the package."""
LAUNCHER = "launcher"
_SHM = "/dev/shm/"


@dataclass(frozen=True, slots=True)
class _Entry:
    parent: int
    started: int
    """Clock ticks since the machine's start; with the number it tells processes apart."""
    is_zombie: bool


@dataclass(slots=True)
class RoleReading:
    """All processes of a role at one moment."""

    processes: int = 0
    memory_bytes: int = 0
    """Proportional (PSS), without pages of files."""
    own_bytes: int = 0
    """Of nobody else (USS)."""
    descriptors: int = 0
    threads: int = 0


@dataclass(slots=True)
class Family:
    """A launcher and everything below it, from its start to after its end."""

    root: int
    """Process id of the launcher."""
    mark: bytes
    """`NAME=value` in the environment of all of them, also of those that lose their parent."""
    seen: set[tuple[int, int]] = field(default_factory=set)
    """(process id, start) of every process that was ever looked at."""
    sockets: set[str] = field(default_factory=set)
    """Inodes of theirs."""

    def read(self) -> dict[str, RoleReading]:
        """Everything by role, as of now."""
        entries = _entries()
        readings: defaultdict[str, RoleReading] = defaultdict(RoleReading)
        for pid in _below(self.root, entries):
            # It may end between two lines.
            with suppress(OSError, KeyError, ValueError):
                role = LAUNCHER if pid == self.root else role_of(_title(pid))
                self._add(readings[role], pid)
                self.seen.add((pid, entries[pid].started))
        return dict(readings)

    def living(self) -> list[str]:
        """`PID title` of those that are alive: seen before, or with the mark."""
        return [f"{pid} {_title(pid) or '?'}" for pid in self.living_pids()]

    def living_pids(self) -> list[int]:
        """Zombies are not alive: they hold nothing and wait for whoever inherited them."""
        entries = _entries()
        return [
            pid
            for pid, entry in entries.items()
            if not entry.is_zombie
            and pid != os.getpid()
            and ((pid, entry.started) in self.seen or self._is_marked(pid))
        ]

    def open_sockets(self) -> list[str]:
        """Lines of /proc/net about sockets that one of the processes had."""
        found = []
        for name, column in (("tcp", 9), ("tcp6", 9), ("udp", 9), ("udp6", 9), ("unix", 6)):
            with suppress(OSError):
                for line in Path("/proc/net", name).read_text().splitlines()[1:]:
                    words = line.split()
                    if len(words) > column and words[column] in self.sockets:
                        found.append(f"{name} {' '.join(words)}")
        return found

    def _add(self, reading: RoleReading, pid: int) -> None:
        folder = Path("/proc", str(pid))
        memory = _memory(folder)
        threads = len(os.listdir(folder / "task"))
        descriptors = os.listdir(folder / "fd")
        for descriptor in descriptors:
            with suppress(OSError):
                link = os.readlink(folder / "fd" / descriptor)
                if link.startswith("socket:["):
                    self.sockets.add(link[8:-1])
        reading.processes += 1
        reading.memory_bytes += memory["Pss_Anon"] + memory["Pss_Shmem"] + memory["SwapPss"]
        reading.own_bytes += memory["Private_Clean"] + memory["Private_Dirty"]
        reading.descriptors += len(descriptors)
        reading.threads += threads

    def _is_marked(self, pid: int) -> bool:
        with suppress(OSError):
            return self.mark in Path("/proc", str(pid), "environ").read_bytes().split(b"\0")
        return False


def role_of(title: str) -> str:
    """The role of a process by what `ps` shows of it."""
    for prefix, role in _ROLES.items():
        if title.startswith(prefix):
            return role
    program = title.split(" ", 1)[0].rsplit("/", 1)[-1]
    return _PROGRAMS.get(program, "ray_agents" if _OF_RAY in title else "others")


def shared_files() -> set[str]:
    """Names in /dev/shm."""
    with suppress(OSError):
        return set(os.listdir(_SHM))
    return set()


def abandoned_shared_files(before: Iterable[str]) -> list[str]:
    """Names in /dev/shm that were not there before and that no living process has open."""
    new = shared_files() - set(before)
    return sorted(new - _held_shared_files()) if new else []


def summed(readings: Mapping[str, RoleReading]) -> RoleReading:
    """All roles together."""
    total = RoleReading()
    for reading in readings.values():
        total.processes += reading.processes
        total.memory_bytes += reading.memory_bytes
        total.own_bytes += reading.own_bytes
        total.descriptors += reading.descriptors
        total.threads += reading.threads
    return total


def _held_shared_files() -> set[str]:
    held = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for line in (folder / "maps").read_text().splitlines():
                if _SHM in line:
                    held.add(line.partition(_SHM)[2].removesuffix(" (deleted)"))
            for link in map(os.readlink, (folder / "fd").iterdir()):
                if link.startswith(_SHM):
                    held.add(link.removeprefix(_SHM).removesuffix(" (deleted)"))
    return held


def _memory(folder: Path) -> dict[str, int]:
    """Bytes by the names that the kernel gives them."""
    text = (folder / "smaps_rollup").read_text()
    return {name: 1024 * int(kib) for name, kib in re.findall(r"(?m)^(\w+):\s+(\d+) kB$", text)}


def _title(pid: int) -> str:
    with suppress(OSError):
        text = Path("/proc", str(pid), "cmdline").read_bytes().decode(errors="replace")
        return text.replace("\0", " ").strip()
    return ""


def _below(root: int, entries: Mapping[int, _Entry]) -> list[int]:
    children: defaultdict[int, list[int]] = defaultdict(list)
    for pid, entry in entries.items():
        children[entry.parent].append(pid)
    found = [root] if root in entries else []
    for pid in found:
        found += children[pid]
    return found


def _entries() -> dict[int, _Entry]:
    entries = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # The name in brackets may hold anything; what follows the last bracket is in order.
            words = (folder / "stat").read_text().rpartition(")")[2].split()
            entries[int(folder.name)] = _Entry(int(words[1]), int(words[19]), words[0] == "Z")
    return entries
