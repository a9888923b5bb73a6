"""Stops the run of a soak as a person would, and looks for what is left of it.

Threads and sockets cannot outlive their processes, so processes are what is looked for.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.processes import Family, abandoned_shared_files
from records.machine import title_of

# Exit status of a run after Ctrl-C (README, "Commands").
INTERRUPTED = 130
# Longest time from Ctrl-C to the end of the command; replay and checkpoint are written in it.
MAX_SECONDS = 120.0
# Time that Ray's own processes may take to end once the command has.
AFTERWARDS_S = 10.0
# What Ray and PyTorch leave in the temporary folder: logs, a socket's name, an empty folder.
_OF_LIBRARIES = ("ray", "torchinductor_")
_EXPECTED = ("summary.json", "config.yaml", "metrics.jsonl", "student/weights.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What a run does at Ctrl-C, and leaves."""

    # Exit status; -1 for a run that had to be killed.
    status: int = -1
    # Time from Ctrl-C to the end of the command.
    seconds: float = 0.0
    # Processes left alive, `PID title`.
    processes: list[str] = field(default_factory=list)
    # Files left in /dev/shm.
    shared_files: list[str] = field(default_factory=list)
    # Files left in the temporary folder, but for logs of Ray.
    temporary_files: list[str] = field(default_factory=list)
    # Files that an interrupted run should have written.
    missing_files: list[str] = field(default_factory=list)
    # Files that should have gone with the run.
    secrets: list[str] = field(default_factory=list)

    def judge(self) -> dict[str, bool]:
        """Each check, and whether it passed."""
        left = {name: not found for name, found in asdict(self).items() if isinstance(found, list)}
        return {
            "status": self.status == INTERRUPTED,
            "seconds": self.seconds <= MAX_SECONDS,
            **left,
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
    """Press Ctrl-C, wait for the end, and look."""
    family.read()
    begun = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    try:
        status = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        status = -1
    seconds = time.monotonic() - begun
    deadline = time.monotonic() + afterwards_s
    while family.living() and time.monotonic() < deadline:
        time.sleep(0.2)
    return Ending(
        status=status,
        seconds=seconds,
        processes=[f"{p.pid} {title_of(p.pid) or '?'}" for p in family.living()],
        shared_files=abandoned_shared_files(shared_before),
        temporary_files=left_files(scratch),
        missing_files=[name for name in _EXPECTED if not (run / name).exists()],
        secrets=[name for name in ("redis_url",) if (run / name).exists()],
    )


def left_files(scratch: Path) -> list[str]:
    """Names in a run's temporary folder that are not those of Ray and PyTorch."""
    names = sorted(path.name for path in scratch.iterdir())
    return [name for name in names if not name.startswith(_OF_LIBRARIES)]
