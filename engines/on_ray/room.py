"""Whether a Ray cluster has room for a run: what is missing, and the wait for more nodes.

A role asks for one CPU, a learner also for a GPU if it computes on one. An autoscaler starts
nodes for what it is asked for; where there is one, a run asks and waits, as long as it may.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources

from engines.on_ray.ray_internals import autoscaler_node_types
from recipes.recipe import Recipe

# How long a run waits for nodes where an autoscaler starts them, unless it says otherwise.
AUTOSCALER_WAIT_S = 600.0

_LOOK_PERIOD_S = 1.0
_ray: Any = ray  # Some of its functions have no types.


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a run needs, or a cluster has."""

    cpus: int
    gpus: int = 0

    def __str__(self) -> str:
        """The shortage in one line."""
        cpus = f"{self.cpus} CPU{'' if self.cpus == 1 else 's'}"
        return f"{cpus} and {self.gpus} GPU{'' if self.gpus == 1 else 's'}" if self.gpus else cpus


def num_roles(recipe: Recipe) -> int:
    """Processes of a run, each of which asks Ray for one CPU.

    Actors, shards, learners, and the inference server if there is one.
    """
    config = recipe.config
    num_servers = int(config.actor.inference == "server")
    num_others = config.replay.num_shards + config.learner.num_replicas + num_servers
    return sum(recipe.num_actors.values()) + num_others


def find_shortage(need: Room, nodes: Sequence[Mapping[str, Any]]) -> str:
    """What is missing, in words; empty if all roles fit.

    What others use of the nodes counts as free, since it may become so.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    # A role is on one node: halves of a CPU on two nodes are none.
    have = Room(
        cpus=sum(int(resources.get("CPU", 0)) for resources in alive),
        gpus=sum(int(resources.get("GPU", 0)) for resources in alive),
    )
    if have.cpus < need.cpus or have.gpus < need.gpus:
        return f"needs {need}, but the cluster has {have}"
    if need.gpus > sum(int(min(r.get("GPU", 0), r.get("CPU", 0))) for r in alive):
        return f"needs {need}, but the cluster has too few CPUs on nodes with GPUs"
    return ""


def wait_for_room(need: Room, *, wait_s: float | None, note: Callable[[str], None] = print) -> None:
    """Return when the cluster that this process is connected to can hold a run.

    Waits `wait_s`, or where that is None 10 minutes with an autoscaler and else not at all; then a
    ValueError says what is missing, and what to do.
    """
    shortage = find_shortage(need, _ray.nodes())
    if not shortage:
        return
    grows = has_autoscaler()
    patience_s = wait_s if wait_s is not None else (AUTOSCALER_WAIT_S if grows else 0.0)
    whom = "the autoscaler" if grows else "more nodes"
    deadline = time.monotonic() + patience_s
    if grows and patience_s:
        request_resources(bundles=_bundles(need))
    try:
        said = ""
        while shortage and time.monotonic() < deadline:
            if shortage != said:
                said = shortage
                note(f"the run {shortage}; waiting for {whom}")
            time.sleep(min(_LOOK_PERIOD_S, max(0.0, deadline - time.monotonic())))
            shortage = find_shortage(need, _ray.nodes())
    finally:
        if grows and patience_s:
            # From now on the roles themselves are what is asked for.
            request_resources(bundles=[])
    if shortage:
        raise ValueError(_refusal(need, shortage, whom, patience_s))


def _bundles(need: Room) -> list[dict[str, float]]:
    # A GPU for each learner, which may be on nodes of their own.
    return [{"CPU": 1.0, "GPU": 1.0}] * need.gpus + [{"CPU": 1.0}] * (need.cpus - need.gpus)


def _refusal(need: Room, shortage: str, whom: str, waited_s: float) -> str:
    waited = f" after {waited_s:g} s of waiting for {whom}" if waited_s else ""
    advice = ["fewer --actors", "more nodes"]
    if need.gpus:
        advice.append("--device cpu")
    if need.gpus > 1:
        advice.insert(0, "fewer --learner.num-replicas")
    if not waited_s:
        advice.append("--cluster-wait-s 600 if they are on their way")
    return (
        f"the run {shortage}{waited} (one CPU for each actor, each replay shard and each learner); "
        f"use {', '.join(advice[:-1])} or {advice[-1]}"
    )


def has_autoscaler() -> bool:
    """Whether somebody starts nodes for what is asked of this cluster.

    Ray runs a monitor in every cluster. One that starts no nodes calls each by its number.
    """
    return any(not kind.startswith("node_") for kind in autoscaler_node_types() if kind)
