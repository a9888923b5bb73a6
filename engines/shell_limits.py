"""Limits that a shell or a batch system sets for each process, held against what a run needs.

Where one is too low, PyTorch and Ray end in a crash, a page of traceback, or a wait for nothing.
Imports no torch, so that it can be asked before.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass

_GIB = 1 << 30
# Measured with PyTorch's CPU build: a process that learns alone reserves 1.2 GiB of addresses, and
# dies in the import at half a GiB. The CUDA build wants more, and says so in one line by itself.
_ALONE_ADDRESSES = 3 * _GIB // 2
# Measured: Ray's node manager reserves 14 GiB of addresses, a worker 9 GiB; little of it is memory.
_RAY_ADDRESSES = 16 * _GIB
# PyTorch's kernels crash on a stack of a quarter of a MiB.
_STACK = 1 << 20
# Measured: Ray's node manager has 72 files open with four workers. Twice that, and room to grow.
_RAY_FILES, _FILES_OF_A_PROCESS = 128, 8
# Measured: Ray itself has about 150 threads, a worker up to 29.
_RAY_THREADS, _THREADS_OF_A_PROCESS = 150, 30

_ALONE = "run in one process with --engine local"


@dataclass(frozen=True, slots=True)
class _Limit:
    number: int
    # What is limited, and how the shell names the limit.
    what: str
    letter: str
    unit: str = ""
    per_unit: int = 1

    def check(self, needed: int, who: str, else_do: str = "") -> None:
        """Raise the limit if that is allowed; ValueError if it stays below what is needed."""
        soft, hard = resource.getrlimit(self.number)
        if not _is_below(soft, needed):
            return
        if not _is_below(hard, needed):
            resource.setrlimit(self.number, (hard, hard))
            return
        have, need = (f"{round(n / self.per_unit, 1):,g}{self.unit}" for n in (hard, needed))
        raise ValueError(
            f"the shell or the batch system limits {self.what} to {have} (ulimit -{self.letter}), "
            f"but {who} needs {need}; raise the limit{f', or {else_do}' if else_do else ''}"
        )


_ADDRESSES = _Limit(resource.RLIMIT_AS, "the address space of a process", "v", " GiB", _GIB)
_STACKS = _Limit(resource.RLIMIT_STACK, "the stack of a process", "s", " KiB", 1 << 10)
_FILES = _Limit(resource.RLIMIT_NOFILE, "open files", "n")
_THREADS = _Limit(resource.RLIMIT_NPROC, "a user's processes and threads", "u")


def check_limits_of_one_process() -> None:
    """ValueError if the limits are too low for a process that learns or plays."""
    _ADDRESSES.check(_ALONE_ADDRESSES, "PyTorch")
    _STACKS.check(_STACK, "PyTorch")


def check_limits_for_ray(num_processes: int) -> None:
    """ValueError if the limits are too low for a Ray on this machine with so many processes."""
    _ADDRESSES.check(_RAY_ADDRESSES, "Ray", _ALONE)
    _FILES.check(_RAY_FILES + _FILES_OF_A_PROCESS * num_processes, "Ray", _ALONE)
    if os.getuid() != 0:  # The kernel does not count those of the administrator.
        _THREADS.check(_RAY_THREADS + _THREADS_OF_A_PROCESS * num_processes, "Ray", _ALONE)


def _is_below(limit: int, needed: int) -> bool:
    return limit != resource.RLIM_INFINITY and limit < needed
