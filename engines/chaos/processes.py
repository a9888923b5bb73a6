"""The processes of a run as Ray knows them, found and killed through the Ray that carries the run.

A kill is a small task of Ray on the node of the process, so one way serves every machine.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from engines.chaos.kill import kill_here, kill_own_node
from engines.on_ray.calls import cause_of, in_one_line
from engines.on_ray.role_processes import RoleProcess, find_processes
from engines.on_ray.session import check_reachable, one_line_if_refused, this_node
from engines.on_ray.surroundings import started_from_source

# A node on which no task has run yet has to start a process for it.
_TASK_PATIENCE_S = 60.0

_LOOK_PERIOD_S = 0.25

# Ray's own typing does not know all of this.
_ray: Any = ray
_remote_kill: Any = _ray.remote(num_cpus=0, max_retries=0)(kill_here)
_remote_kill_node: Any = _ray.remote(num_cpus=0, max_retries=0)(kill_own_node)


class Processes(Protocol):
    """The processes of one run."""

    # Node that this process is on.
    here: str

    def find(self) -> list[RoleProcess]:
        """All that live."""
        ...

    def kill(self, process: RoleProcess) -> None:
        """SIGKILL; returns when it has ended, raises ValueError if nothing was killed."""
        ...

    def kill_node(self, node: str) -> None:
        """End a whole node; returns when that is known."""
        ...


class RayProcesses:
    """The processes of one run on the Ray that this process is connected to."""

    def __init__(self, run: str) -> None:
        """`run`: the run's name in Redis."""
        self._run = run
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
