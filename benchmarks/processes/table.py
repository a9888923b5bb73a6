"""Memory, file descriptors and threads of another process, from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """One look at a process."""

    pid: int
    resident_bytes: int
    """All of its memory, with what it shares with others."""
    shared_bytes: int
    """Of that, shared memory: Ray's object store, slots that batches travel in."""
    num_descriptors: int
    num_threads: int

    @property
    def own_bytes(self) -> int:
        """Memory that nobody else has mapped: tables and everything else of its own."""
        return self.resident_bytes - self.shared_bytes


def read_process(pid: int) -> ProcessReading:
    """Raises OSError if there is no such process, or no /proc."""
    folder = Path("/proc") / str(pid)
    status = dict(
        line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line
    )
    return ProcessReading(
        pid=pid,
        resident_bytes=_kib(status["VmRSS"]),
        shared_bytes=_kib(status["RssShmem"]),
        num_descriptors=len(os.listdir(folder / "fd")),
        num_threads=int(status["Threads"]),
    )


def _kib(entry: str) -> int:
    return int(entry.split()[0]) * 1024
