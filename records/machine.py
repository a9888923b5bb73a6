"""The machine that this process runs on: what it is made of, and what of it the process may use."""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from records.control_groups import ControlGroups


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
