"""The machine that this process runs on: what of it the process may use, and who else is there.

A container or a batch system limits cores and memory by Linux's control groups, of which there are
two versions. A process is limited by its own group and by every group above it, and sees neither
limit in its core count nor in the free memory of the machine. Other processes may end between any
two questions, and may belong to somebody else: what cannot be read is left out.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

# The first version writes a number near 2^63 where the second one writes `max`.
_NO_LIMIT_BYTES = 1 << 60


def usable_cores() -> int:
    """Cores that this process may keep busy: fewer than there are in a container or batch job.

    The least of the machine's cores, the process's affinity and the quotas of its control groups,
    where a part of a core counts as one.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = ControlGroups().cpu_quota()
    return max(1, min(cores or 1, math.ceil(quota) if quota is not None else cores or 1))


def available_memory_bytes() -> int:
    """Memory that this process could still use: what the machine has free, or its container."""
    free = ControlGroups().free_memory_bytes()
    available = int(psutil.virtual_memory().available)
    return available if free is None else min(available, free)


def describe_hardware() -> str:
    """This machine in one line."""
    gpus = ", ".join(_gpu_names()) or "no GPU"
    memory = _total_memory_bytes() / 2**30
    return f"{usable_cores()} cores of {_cpu_model()}, {memory:.0f} GiB of memory, {gpus}"


def hardware() -> dict[str, Any]:
    """This machine as it stands in the meta data of a run."""
    return {
        "cpu": _cpu_model(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "memory_bytes": _total_memory_bytes(),
        "gpus": _gpu_names(),
    }


def output_of(*command: str) -> str | None:
    """What a program prints; None when it is missing, fails or takes longer than 10 s."""
    if shutil.which(command[0]) is None:
        return None
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return finished.stdout.strip()


def _total_memory_bytes() -> int:
    return int(psutil.virtual_memory().total)


def _cpu_model() -> str | None:
    # psutil does not tell it, and platform.processor() is empty on most Linux systems.
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or None


def _gpu_names() -> list[str]:
    # Not through torch: that would take memory on the device for a process that may not need it.
    names = output_of("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return [] if names is None else [name.strip() for name in names.splitlines() if name.strip()]


class ControlGroups:
    """The control groups that this process is in."""

    def __init__(
        self,
        root: Path = Path("/sys/fs/cgroup"),
        membership: Path = Path("/proc/self/cgroup"),
    ) -> None:
        """Find the groups below `root`; there are none on a system without them."""
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


def title_of(pid: int) -> str:
    """The command line that `ps` shows of a process; empty for one that has ended."""
    with suppress(psutil.Error):
        return " ".join(psutil.Process(pid).cmdline()).strip()
    return ""


def family_of(pid: int) -> list[Any]:
    """A process and everything below it, as psutil.Process; empty if it has ended."""
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []


def cpu_seconds(process: Any) -> float:
    """Processor time of a psutil.Process without its children; 0 for one that has ended."""
    with suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0
