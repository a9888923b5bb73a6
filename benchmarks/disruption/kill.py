"""Ends one process of a run with SIGKILL, and never another one. Linux only.

The run says which process carries a role; before it is killed, it must still be that very process
(records/process_id.py) and look like that role. It is held open from before the look until after
the kill, so that its id cannot pass on to another process in between.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from records.process_id import RoleProcess, find_process, this_machine
from records.processes import title_of

_END_PATIENCE_S = 10.0
_NEEDS = "processes can be told apart, and killed, on Linux 5.3 or newer only"

_TITLES = {
    "actor": ("ray::ActorProcess",),
    "shard": ("ray::ShardProcess",),
    "learner": ("ray::LearnerProcess",),
    "inference": ("ray::InferenceProcess",),
    "redis": ("redis-server", "valkey-server"),
    "coordinator": ("multitask.py",),
}
"""What `ps` shows of a role's process, in part."""


class _Held:
    """A process that is held open; its id means no other one meanwhile."""

    def __init__(self, pid: int) -> None:
        self.descriptor = os.pidfd_open(pid)

    def close(self) -> None:
        os.close(self.descriptor)


def is_here(target: RoleProcess) -> bool:
    """Whether its process is one of this machine, and of this container."""
    return target.process.machine == this_machine()


def kill_here(target: RoleProcess) -> None:
    """SIGKILL to a role's process on this machine; returns when it has ended.

    Raises:
        ValueError: it has gone, is not what the run says that it is, belongs to somebody else, or
            this system cannot tell. Nothing is killed then.
    """
    if not hasattr(os, "pidfd_open") or not target.process.started:
        raise ValueError(_NEEDS)
    if not is_here(target):
        raise ValueError(f"the process of {target.place} is on another machine")
    try:
        with closing(_Held(target.process.pid)) as held:
            _check_is(target)
            signal.pidfd_send_signal(held.descriptor, signal.SIGKILL)
            ended, _, _ = select.select([held.descriptor], [], [], _END_PATIENCE_S)
    except ProcessLookupError:
        _refuse_gone(target)
    except PermissionError:
        raise ValueError(
            f"the process of {target.place} (pid {target.process.pid}) belongs to another user"
        ) from None
    except OSError as error:
        # Python knows the call, but this kernel or container does not.
        raise ValueError(f"a process cannot be held ({error.strerror}); {_NEEDS}") from None
    if not ended:
        raise ValueError(
            f"the process of {target.place} (pid {target.process.pid}) has not ended within "
            f"{_END_PATIENCE_S:g} s of SIGKILL; the system holds it"
        )


def _check_is(target: RoleProcess) -> None:
    if find_process(target.process.pid) != replace(target.process, node=""):
        _refuse_gone(target)
    title = title_of(target.process.pid)
    known = _TITLES[target.role.partition("/")[0]]
    if not any(text in title for text in known):
        raise ValueError(
            f"pid {target.process.pid} does not look like {target.place} but is {title[:80]!r}; "
            "it is left alone"
        )


def _refuse_gone(target: RoleProcess) -> NoReturn:
    raise ValueError(
        f"the process of {target.place} (pid {target.process.pid}) has gone meanwhile; try again"
    ) from None


def kill_own_node() -> None:
    """SIGKILL to the node manager above this process, a task of Ray, and so to its whole node.

    Raises:
        ValueError: there is none above it. Otherwise it does not return.
    """
    pid = os.getppid()
    while pid > 1:
        if Path(title_of(pid).partition(" ")[0]).name == "raylet":
            os.kill(pid, signal.SIGKILL)
            signal.pause()  # Ray ends what is left on a node without its manager.
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    raise ValueError("found no node manager of Ray above this process")
