"""Where the roles of a run are put on a Ray cluster, as options for Ray.

    learner    a node with a GPU if it computes on one, the launching node if that will do
    shards     beside the learner, so that batches come through shared memory; or spread
    actors     anywhere

All but the learner's GPU is a wish: a role goes elsewhere before it waits for one certain node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from engines.on_ray.ray_internals import free_cpus, near

# Part of a GPU that Ray sets aside for the inference server; it does not limit what it uses.
INFERENCE_GPUS = 0.25

_ray: Any = ray  # Some of its functions have no types.


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Options for the roles of one run."""

    # Whether the learner computes on a GPU.
    needs_gpu: bool = False
    # Whether replay goes to many nodes instead of the learner's.
    spreads_shards: bool = False
    # Node that all roles must be on, because no other one reaches the run's Redis.
    only_node: str = ""
    # Whether a role that is added later needs a free CPU; on a Ray of the run's own the roles
    # share the cores, however many they are.
    counts_cpus: bool = True

    def learner(self, *, shares_gpu: bool = False) -> dict[str, Any]:
        """Options of a learner; `shares_gpu`: whether the inference server finds room beside it."""
        num_gpus = 1.0 - INFERENCE_GPUS if shares_gpu else 1.0
        return self._beside_learner() | ({"num_gpus": num_gpus} if self.needs_gpu else {})

    def inference(self) -> dict[str, Any]:
        """Options of the inference server, which computes on the same kind of device."""
        return self._beside_learner() | ({"num_gpus": INFERENCE_GPUS} if self.needs_gpu else {})

    def shard(self) -> dict[str, Any]:
        """Options of a replay shard."""
        if self.spreads_shards and not self.only_node:
            return {"scheduling_strategy": "SPREAD"}
        return self._beside_learner()

    def actor(self, *, is_added: bool) -> dict[str, Any]:
        """Options of an actor, which was there from the beginning or is added later."""
        options: dict[str, Any] = {} if self.counts_cpus or not is_added else {"num_cpus": 0}
        return options | (self._beside_learner() if self.only_node else {})

    def has_room_for_actor(self) -> bool:
        """Whether an added actor has a free CPU now, where it may be, or needs none."""
        if not self.counts_cpus:
            return True
        free = free_cpus()
        places = [self.only_node] if self.only_node else list(free)
        return any(free.get(node, 0) >= 1 for node in places)

    def _beside_learner(self) -> dict[str, Any]:
        if self.only_node:
            strategy = NodeAffinitySchedulingStrategy(self.only_node, soft=False)
            return {"scheduling_strategy": strategy}
        here = _ray.get_runtime_context().get_node_id()
        node = choose_learner_node(_ray.nodes(), here=here, needs_gpu=self.needs_gpu)
        return {"scheduling_strategy": near(node)} if node else {}


def choose_learner_node(nodes: Sequence[Mapping[str, Any]], *, here: str, needs_gpu: bool) -> str:
    """Id of the node for the learner, `here` if that will do; empty if no node will do yet."""
    fitting = [
        node
        for node in nodes
        if node["Alive"]
        and node["Resources"].get("CPU", 0) >= 1
        and (not needs_gpu or node["Resources"].get("GPU", 0) >= 1)
    ]
    fitting.sort(key=lambda node: (node["NodeID"] != here, -node["Resources"]["CPU"]))
    return str(fitting[0]["NodeID"]) if fitting else ""
