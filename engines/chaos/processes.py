"""The processes of a run as Ray knows them, found and killed through the Ray that carries the run.

Ray and Redis say which process carries a role; before it is killed with SIGKILL, it must look like
that role. It is held open from before the look until after the kill, so that its id cannot pass on
to another process in between (Linux only). A kill is a small task of Ray on the node of the
process, so one way serves every machine.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from engines.on_ray.calls import cause_of, in_one_line
from engines.on_ray.role_processes import RoleProcess, find_processes
from engines.on_ray.session import check_reachable, one_line_if_refused, this_node
from engines.on_ray.surroundings import started_from_source
from records.machine import title_of

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


# A node on which no task has run yet has to start a process for it.
_TASK_PATIENCE_S = 60.0

_LOOK_PERIOD_S = 0.25

# Ray's own typing does not know all of this.
_ray: Any = ray
_remote_kill: Any = _ray.remote(num_cpus=0, max_retries=0)(kill_here)
_remote_kill_node: Any = _ray.remote(num_cpus=0, max_retries=0)(kill_own_node)


class RayProcesses:
    """The processes of one run on the Ray that this process is connected to."""

    def __init__(self, run: str) -> None:
        """`run`: the run's name in Redis."""
        self._run = run
        # Node that this process is on.
        self.here = this_node()

    def find(self) -> list[RoleProcess]:
        """All living processes of the run, by place."""
        return find_processes(self._run)

    def kill(self, process: RoleProcess) -> None:
        """SIGKILL to a process, wherever it is; ValueError as kill_here, or if the node is mute."""
        node = process.node
        try:
            _answer_of(_start_on(node, _remote_kill, process.pid, process.place), node)
        except RayError as error:
            raise ValueError(
                f"node {node[:8]}, on which {process.place} is, could not be asked "
                f"({in_one_line(error)}); try again"
            ) from None

    def kill_node(self, node: str) -> None:
        """SIGKILL to a node's manager; returns when Ray knows that the node has gone."""
        if is_head(node):
            raise ValueError(
                "the node is the head of the cluster, with which all would end; name other roles"
            )
        task = _start_on(node, _remote_kill_node)
        deadline = time.monotonic() + _TASK_PATIENCE_S
        # Not by the task's answer: Ray may look for what has become of it for minutes.
        while node in _living_nodes():
            if ray.wait([task], timeout=_LOOK_PERIOD_S)[0]:
                with suppress(RayError):  # It has gone with its node, as it should.
                    _answer_of(task, node)
                time.sleep(_LOOK_PERIOD_S)  # An answer that is there is not waited for.
            if time.monotonic() > deadline:
                raise ValueError(f"node {node[:8]} is still there after {_TASK_PATIENCE_S:g} s")


@contextmanager
def joined(address: str, run: str) -> Iterator[RayProcesses]:
    """Be connected, inside the block, to the Ray that carries a run; else ValueError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        check_reachable(address)
        with one_line_if_refused(address), started_from_source():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ValueError as error:
        raise ValueError(
            f"the run's processes are found through its Ray, which does not help: {error}. Run "
            "this on a node of the run's cluster, with the run's RAY_AUTH_MODE"
        ) from None
    try:
        yield RayProcesses(run)
    finally:
        ray.shutdown()


def is_head(node: str) -> bool:
    """Whether all others depend on this node."""
    return any(
        entry["NodeID"] == node and "node:__internal_head__" in entry["Resources"]
        for entry in _ray.nodes()
    )


def _living_nodes() -> set[str]:
    return {node["NodeID"] for node in _ray.nodes() if node["Alive"]}


def _start_on(node: str, function: Any, *args: Any) -> Any:
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    return function.options(scheduling_strategy=strategy).remote(*args)


def _answer_of(task: Any, node: str) -> None:
    try:
        ray.get(task, timeout=_TASK_PATIENCE_S)
    except TimeoutError:
        raise ValueError(
            f"node {node[:8]} has not answered within {_TASK_PATIENCE_S:g} s"
        ) from None
    except RayError as error:
        raise cause_of(error) from None
