"""Signals by which a run is asked to end, which only its launcher is to hear."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

# A run writes its checkpoint and its summary at the first one.
ENDING_SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,  # The terminal has closed.
    signal.SIGUSR1,  # Batch systems send these three some time before they kill.
    signal.SIGUSR2,
    signal.SIGXCPU,
)


@contextmanager
def children_hear_no_signals() -> Iterator[None]:
    """Processes that this thread starts inside the block, and their own, hear no ENDING_SIGNALS.

    `timeout` and terminals signal a whole process group, batch systems every process of a job. The
    launcher then has to end its run in order, and needs the other processes for that. They inherit
    the mask, and end when the launcher kills them or dies.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
