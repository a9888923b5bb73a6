"""Kills on other nodes, through the Ray that carries the run; see launch/chaos.py.

A task without a CPU of its own goes to the node and does there what disruption/kill.py does here.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from benchmarks.disruption.kill import kill_here, kill_own_node
from engines.on_ray.session import check_reachable, one_line_if_refused
from records.process_id import RoleProcess

_TASK_PATIENCE_S = 60.0
"""A node on which no task has run yet has to start a process for it."""

_LOOK_PERIOD_S = 0.25

# Ray's own typing does not know all of this.
_ray: Any = ray
_remote_kill: Any = _ray.remote(num_cpus=0, max_retries=0)(kill_here)
_remote_kill_node: Any = _ray.remote(num_cpus=0, max_retries=0)(kill_own_node)


@contextmanager
def connected(nodes: set[str]) -> Iterator[None]:
    """Be connected, inside the `with` block, to the cluster that has these nodes.

    Raises:
        ValueError: this machine belongs to no cluster, or to another one.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS") or "auto"
    try:
        check_reachable(address)
        with one_line_if_refused(address):
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ValueError as error:
        raise ValueError(
            f"some of the run's processes are on other machines, and Ray does not help: {error}. "
            "Run this on a node of the run's cluster, with the run's RAY_ADDRESS and RAY_AUTH_MODE"
        ) from None
    try:
        if not nodes <= _living_nodes():
            raise ValueError("the Ray that answers here is not the one that carries the run")
        yield
    finally:
        ray.shutdown()


def _living_nodes() -> set[str]:
    return {node["NodeID"] for node in _ray.nodes() if node["Alive"]}


def kill_there(target: RoleProcess) -> None:
    """As kill_here, on the node of the process; ValueError likewise, and if it does not answer."""
    node = target.process.node
    try:
        _answer_of(_start_on(node, _remote_kill, target), node)
    except RayError as error:
        last_line = str(error).strip().splitlines()[-1]
        raise ValueError(
            f"node {node[:8]}, on which {target.place} is, could not be asked ({last_line}); try "
            "again"
        ) from None


def kill_node(node: str) -> None:
    """SIGKILL to a node's manager; returns when Ray knows that the node has gone."""
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


def is_head(node: str) -> bool:
    """Whether all others depend on this node."""
    return any(
        entry["NodeID"] == node and "node:__internal_head__" in entry["Resources"]
        for entry in _ray.nodes()
    )


def _start_on(node: str, function: Any, *args: Any) -> Any:
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    return function.options(scheduling_strategy=strategy).remote(*args)


def _answer_of(task: Any, node: str) -> None:
    try:
        ray.get(task, timeout=_TASK_PATIENCE_S)
    except RayTaskError as error:
        raise error.cause if isinstance(error.cause, ValueError) else error from None
    except TimeoutError:
        raise ValueError(
            f"node {node[:8]} has not answered within {_TASK_PATIENCE_S:g} s"
        ) from None
