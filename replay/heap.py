"""Gives memory that has been freed back to the system.

The C library keeps what a thread has freed for its next allocations, and how much of it depends on
what else lies between. After something that needs a lot for a moment, a process would stay that
much larger, at times and not at others.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress


def return_free_memory() -> None:
    """As far as whole pages are free; takes milliseconds. Does nothing without glibc."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
