"""Ends one process of this machine with SIGKILL, and never another one. Linux only.

Ray and Redis say which process carries a role; before it is killed, it must look like that role. It
is held open from before the look until after the kill, so that its id cannot pass on to another
process in between.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import closing
from pathlib import Path

import psutil

from records.processes import title_of

_END_PATIENCE_S = 10.0
_NEEDS = "processes can be told apart, and killed, on Linux 5.3 or newer only"

# What `ps` shows of a role's process, in part.
TITLES = {
    "actor": ("ray::ActorProcess",),
    "shard": ("ray::ShardProcess",),
    "learner": ("ray::LearnerProcess",),
    "inference": ("ray::InferenceProcess",),
    "redis": ("redis-server", "valkey-server"),
    "coordinator": ("multitask", "experts"),
}


class _Held:
    """A process that is held open; its id means no other one meanwhile."""

    def __init__(self, pid: int) -> None:
        self.descriptor = os.pidfd_open(pid)

    def close(self) -> None:
        os.close(self.descriptor)


def kill_here(pid: int, place: str) -> None:
    """SIGKILL to a process of this machine, the one in `place`; returns when it has ended.

    ValueError, and nothing is killed, if it has gone, does not look like its role, belongs to
    somebody else, or this system cannot hold it.
    """
    if not hasattr(os, "pidfd_open"):
        raise ValueError(_NEEDS)
    try:
        with closing(_Held(pid)) as held:
            _check_looks_like(pid, place)
            signal.pidfd_send_signal(held.descriptor, signal.SIGKILL)
            ended, _, _ = select.select([held.descriptor], [], [], _END_PATIENCE_S)
    except ProcessLookupError:
        raise ValueError(
            f"the process of {place} (pid {pid}) has gone meanwhile; try again"
        ) from None
    except PermissionError:
        raise ValueError(f"the process of {place} (pid {pid}) belongs to another user") from None
    except OSError as error:
        # Python knows the call, but this kernel or container does not.
        raise ValueError(f"a process cannot be held ({error.strerror}); {_NEEDS}") from None
    if not ended:
        raise ValueError(
            f"the process of {place} (pid {pid}) has not ended within {_END_PATIENCE_S:g} s of "
            "SIGKILL; the system holds it"
        )


def _check_looks_like(pid: int, place: str) -> None:
    title = title_of(pid)
    role = place.partition(" ")[0].partition("/")[0]
    if not any(text in title for text in TITLES[role]):
        raise ValueError(
            f"pid {pid} does not look like {place} but is {title[:80]!r}; it is left alone"
        )


def is_alive(pid: int, place: str) -> bool:
    """Whether the process of a place is still there; another one that has its id is not."""
    try:
        _check_looks_like(pid, place)
    except ValueError:
        return False
    return True


def kill_own_node() -> None:
    """SIGKILL to the node manager above this process, a task of Ray; else ValueError."""
    for parent in psutil.Process().parents():
        if Path(title_of(parent.pid).partition(" ")[0]).name == "raylet":
            parent.kill()
            signal.pause()  # Ray ends what is left on a node without its manager.
    raise ValueError("found no node manager of Ray above this process")
