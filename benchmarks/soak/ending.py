"""Stops the run of a soak as a person would, and looks for what is left of it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.soak.processes import Family, abandoned_shared_files

INTERRUPTED = 130
"""Exit status of a run after Ctrl-C (README, "Commands")."""
MAX_SECONDS = 120.0
"""From Ctrl-C to the end of the command: replay and checkpoint are written meanwhile."""
AFTERWARDS_S = 10.0
"""That Ray's own processes may take to end once the command has."""
_OF_LIBRARIES = ("ray", "torchinductor_")
"""What Ray and PyTorch leave in the temporary folder: logs, a socket's name, an empty folder."""
_EXPECTED = ("summary.json", "config.yaml", "metrics.jsonl", "student/weights.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What a run does at Ctrl-C, and leaves."""

    status: int = -1
    """Exit status; -1 for a run that had to be killed."""
    seconds: float = 0.0
    """From Ctrl-C to the end of the command."""
    processes: list[str] = field(default_factory=list)
    """Left alive; a thread cannot outlive its process."""
    shared_files: list[str] = field(default_factory=list)
    """In /dev/shm."""
    sockets: list[str] = field(default_factory=list)
    """Open in the kernel."""
    temporary_files: list[str] = field(default_factory=list)
    """In the temporary folder, but for logs of Ray."""
    missing_files: list[str] = field(default_factory=list)
    """That an interrupted run should have written."""
    secrets: list[str] = field(default_factory=list)
    """Files that should have gone with the run."""

    def judge(self) -> dict[str, bool]:
        """Each check, and whether it passed."""
        return {
            "status": self.status == INTERRUPTED,
            "seconds": self.seconds <= MAX_SECONDS,
            **{
                name: not getattr(self, name)
                for name in (
                    "processes",
                    "shared_files",
                    "sockets",
                    "temporary_files",
                    "missing_files",
                    "secrets",
                )
            },
        }


def look_at_the_end(
    process: subprocess.Popen[bytes],
    family: Family,
    *,
    run: Path,
    scratch: Path,
    shared_before: Iterable[str],
    timeout_s: float,
    afterwards_s: float = AFTERWARDS_S,
) -> Ending:
    """Press Ctrl-C, wait for the end, and look.

    Args:
        process: the run, leader of its process group.
        family: its processes, read before.
        run: its folder.
        scratch: its folder of temporary files.
        shared_before: names that were in /dev/shm before it began.
        timeout_s: for its end; after that it counts as one that has to be killed.
        afterwards_s: for the end of its other processes, from there.
    """
    family.read()
    begun = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    try:
        status = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        status = -1
    seconds = time.monotonic() - begun
    _wait_for_the_others(family, afterwards_s)
    return Ending(
        status=status,
        seconds=seconds,
        processes=family.living(),
        shared_files=abandoned_shared_files(shared_before),
        sockets=family.open_sockets(),
        temporary_files=left_files(scratch),
        missing_files=[name for name in _EXPECTED if not (run / name).exists()],
        secrets=[name for name in ("redis_url",) if (run / name).exists()],
    )


def left_files(scratch: Path) -> list[str]:
    """Names in a run's temporary folder that are not those of Ray and PyTorch."""
    names = sorted(path.name for path in scratch.iterdir())
    return [name for name in names if not name.startswith(_OF_LIBRARIES)]


def _wait_for_the_others(family: Family, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while family.living_pids() and time.monotonic() < deadline:
        time.sleep(0.2)
