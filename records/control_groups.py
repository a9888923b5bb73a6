"""Limits that a container or a batch system has set on this process: cores and memory.

Linux keeps them in control groups, of which there are two versions. A process is limited by its own
group and by every group above it, and sees neither the limits in its core count nor in the free
memory of the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# The first version writes a number near 2^63 where the second one writes `max`.
_NO_LIMIT_BYTES = 1 << 60


class ControlGroups:
    """The control groups that this process is in."""

    def __init__(
        self,
        root: Path = Path("/sys/fs/cgroup"),
        membership: Path = Path("/proc/self/cgroup"),
    ) -> None:
        """Find the groups; there are none on a system without them.

        Args:
            root: where the groups are mounted.
            membership: file with a line `NUMBER:CONTROLLERS:GROUP` for each hierarchy.
        """
        self._root = root
        self._groups = _read_membership(membership)

    def cpu_quota(self) -> float | None:
        """Cores' worth of processor time that all processes of the group share; None for no limit.

        A quota is time, not cores: a process may run on all cores, and then stands still.
        """
        quotas = []
        for folder in self._folders(""):
            words = _read_words(folder / "cpu.max")
            if len(words) == 2 and words[0] != "max":
                quotas.append(int(words[0]) / int(words[1]))
        for folder in self._folders("cpu"):
            quota = _read_integer(folder / "cpu.cfs_quota_us")
            period = _read_integer(folder / "cpu.cfs_period_us")
            if quota is not None and quota > 0 and period:
                quotas.append(quota / period)
        return min(quotas, default=None)

    def free_memory_bytes(self) -> int | None:
        """Memory that the group may still take; None for no limit."""
        rooms = []
        for folder in self._folders(""):
            limit = _read_integer(folder / "memory.max")
            used = _read_integer(folder / "memory.current")
            rooms.append(_room(limit, used, _read_stat(folder, "inactive_file")))
        for folder in self._folders("memory"):
            limit = _read_integer(folder / "memory.limit_in_bytes")
            used = _read_integer(folder / "memory.usage_in_bytes")
            rooms.append(_room(limit, used, _read_stat(folder, "total_inactive_file")))
        return min((room for room in rooms if room is not None), default=None)

    def _folders(self, controller: str) -> Iterator[Path]:
        """The group's folder and those above it; the second version has "" for a controller."""
        if controller not in self._groups:
            return
        # A machine with both versions mounts the second one as `unified`.
        mounts = [controller] if controller else ["", "unified"]
        for mount in mounts:
            top = self._root / mount
            group = top / self._groups[controller].lstrip("/")
            # Inside a container the path may be the host's, and only its top be mounted.
            yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(top))


def _read_membership(path: Path) -> dict[str, str]:
    groups: dict[str, str] = {}
    with suppress(OSError):
        for line in path.read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            groups |= dict.fromkeys(controllers.split(","), group)
    return groups


def _room(limit: int | None, used: int | None, cached: int) -> int | None:
    if limit is None or used is None or limit >= _NO_LIMIT_BYTES:
        return None
    # Cached files count as used by a group, but give way.
    return max(0, limit - (used - cached))


def _read_stat(folder: Path, name: str) -> int:
    words = _read_words(folder / "memory.stat")
    return int(words[words.index(name) + 1]) if name in words else 0


def _read_words(path: Path) -> list[str]:
    with suppress(OSError):
        return path.read_text().split()
    return []


def _read_integer(path: Path) -> int | None:
    words = _read_words(path)
    return int(words[0]) if words and words[0].lstrip("-").isdigit() else None
