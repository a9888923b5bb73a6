"""Other processes of this machine: titles, families and what they have used.

psutil reads them, on every system that it knows. A process may end between any two questions, and
may belong to somebody else: what cannot be read is left out.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psutil


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
