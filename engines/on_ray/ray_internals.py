"""What the engine uses of Ray that Ray does not promise to keep; nothing else does.

Each function has a test of its own (tests/integration/test_ray_internals.py), which a new version
of Ray has to pass before pyproject.toml may allow it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray._private import state as _untyped_state
from ray._private import worker as _untyped_worker
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray.experimental.internal_kv import _internal_kv_get
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

# Ray's own typing does not know most of this.
_ray: Any = ray
_state: Any = _untyped_state
_worker: Any = _untyped_worker


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedProcess:
    """An actor of Ray that has a name and has not ended, in Ray's table of actors."""

    name: str
    # On its own node; 0 before it has a process.
    pid: int
    # Ray's id of the node.
    node: str
    # Whether it has been built.
    is_up: bool


def named_processes() -> list[NamedProcess]:
    """All actors with a name that live or are to live, of all runs on the cluster.

    ray.util.state would tell as much, but asks Ray's dashboard, which a run does not start.
    """
    return [
        NamedProcess(
            name=entry["Name"],
            pid=int(entry["Pid"] or 0),
            node=str(entry["Address"]["NodeID"]),
            is_up=entry["State"] == "ALIVE",
        )
        for entry in _state.actors().values()
        if entry["State"] != "DEAD" and entry["Name"]
    ]


def log_folder() -> str:
    """Folder in which the processes of Ray on this node write their logs."""
    return str(_worker._global_node.get_logs_dir_path())


def silence_daemons() -> None:
    """Keep what Ray's daemons tell this process off its output; their logs have it as well."""
    # log_to_driver=False does not reach these messages.
    _worker.print_to_stdstream = lambda data, ignore_prefix: None


def shut_down_without_grace() -> None:
    """Have ray.shutdown kill the daemons of this process's own Ray at once.

    They hear no SIGTERM (engines/signals.py), for which Ray would wait a second for each of them.
    """
    node = _worker._global_node
    kill_all = node.kill_all_processes

    def kill_at_once(check_alive: bool = True, **_: bool) -> None:
        # Its agents would try for a minute to report that their node manager has gone.
        left: list[psutil.Process] = []
        for info in (info for infos in node.all_processes.values() for info in infos):
            with suppress(psutil.NoSuchProcess):
                left += psutil.Process(info.process.pid).children(recursive=True)
        kill_all(check_alive=check_alive, allow_graceful=False, wait=True)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    node.kill_all_processes = kill_at_once


def pid_of(handle: Any) -> int:
    """Process id of an actor on its own node; 0 while it waits for room in the cluster."""
    # Ray's public calls do not tell a role that waits from one that is just starting.
    entry = _state.actors(handle._actor_id.hex())
    return int(entry.get("Pid") or 0) if entry else 0


def free_cpus() -> dict[str, float]:
    """CPUs that nobody has asked for, by node."""
    per_node: Mapping[str, Mapping[str, float]] = _state.available_resources_per_node()
    return {node: free.get("CPU", 0.0) for node, free in per_node.items()}


def near(node: str) -> NodeAffinitySchedulingStrategy:
    """Place a process on a node if that has room, else on any other one instead of waiting."""
    return NodeAffinitySchedulingStrategy(node, soft=True, _spill_on_unavailable=True)


def dead_daemons() -> list[str]:
    """Those of Ray's own processes, started by this one, that have died; none on a cluster."""
    node = _worker._global_node
    names = {"gcs_server": "control store (gcs_server)", "raylet": "node manager (raylet)"}
    return [
        said
        for name, said in names.items()
        if node is not None
        and any(info.process.poll() is not None for info in node.all_processes.get(name, []))
    ]


def autoscaler_node_types() -> set[str]:
    """Names of the kinds of nodes that the cluster's monitor reports; empty if it says nothing."""
    kinds: set[str] = set()
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        report = json.loads(_internal_kv_get(DEBUG_AUTOSCALING_STATUS))["autoscaler_report"]
        kinds |= set(report["node_type_mapping"].values())
    # The newer kind of autoscaler reports elsewhere; where there is none, this fails.
    with suppress(Exception):
        from ray.autoscaler.v2.sdk import get_cluster_status
        from ray.autoscaler.v2.utils import is_autoscaler_v2

        if is_autoscaler_v2(fetch_from_server=True):
            status = get_cluster_status(_ray.get_runtime_context().gcs_address)
            nodes = (*status.active_nodes, *status.idle_nodes)
            kinds |= {node.ray_node_type_name for node in nodes}
    return kinds
