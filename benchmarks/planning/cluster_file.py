"""What machines a cluster has, from its file: Ray's own (`ray up`) or KubeRay's (kind RayCluster).

Nothing is asked of a cloud, and no names of its machines are known here: CPUs and GPUs are those of
a node type's `resources`, and what a file does not say is None.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine of a cluster."""

    kind: str
    # None if the file does not say.
    cpus: int | None
    # None if the file does not say.
    gpus: int | None = 0
    # Kind of GPU; empty if unknown or none.
    gpu: str = ""
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeType:
    """A kind of worker, and how many there may be."""

    node: Node
    min_workers: int
    max_workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFile:
    """The head and what else there may be."""

    name: str
    head: Node
    workers: tuple[NodeType, ...] = ()
    # Most workers of all kinds together.
    max_workers: int = 0

    def nodes(self, *, largest: bool) -> tuple[Node, ...]:
        """The head first; with as few workers as there may be, or as many."""
        left = self.max_workers
        nodes = [self.head]
        for worker in self.workers:
            count = min(left, worker.max_workers if largest else worker.min_workers)
            nodes += [worker.node] * count
            left -= count
        return tuple(nodes)


def read_cluster(path: Path) -> ClusterFile:
    """Read a file.

    Raises:
        ValueError: it cannot be read, or is not the file of a cluster; names the path.
    """
    try:
        documents = list(yaml.safe_load_all(path.read_text()))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ValueError(f"cannot read the cluster file {path}: {reason}") from None
    except (yaml.YAMLError, RecursionError) as error:
        words = " ".join(str(error).split())
        raise ValueError(f"the cluster file {path} is not valid YAML: {words}") from None
    try:
        for document in documents:
            if isinstance(document, dict):
                if document.get("kind") == "RayCluster":
                    return _from_kuberay(document)
                if "available_node_types" in document:
                    return _from_node_types(document)
                if "provider" in document and "head_ip" in document["provider"]:
                    return _from_addresses(document)
    # What is missing, of another type, or not a number that can be.
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, StopIteration) as e:
        raise ValueError(f"the cluster file {path} is damaged: {e!r}") from None
    raise ValueError(
        f"{path} is not the file of a cluster: it has neither available_node_types, nor the "
        "provider's head_ip, nor the kind RayCluster"
    )


def _from_node_types(document: Mapping[str, Any]) -> ClusterFile:
    types = {name: _node(name, spec) for name, spec in document["available_node_types"].items()}
    head = document.get("head_node_type", next(iter(types)))
    limit = int(document.get("max_workers", 2))
    return ClusterFile(
        name=str(document.get("cluster_name", "")),
        head=types[head],
        workers=tuple(
            NodeType(
                node=types[name],
                min_workers=int(spec.get("min_workers", 0)),
                max_workers=int(spec.get("max_workers", limit)),
            )
            for name, spec in document["available_node_types"].items()
            if name != head
        ),
        max_workers=limit,
    )


def _node(name: str, spec: Mapping[str, Any]) -> Node:
    resources = spec.get("resources") or {}
    return Node(
        kind=name,
        cpus=int(resources["CPU"]) if "CPU" in resources else None,
        gpus=int(resources.get("GPU", 0)),
        memory_bytes=int(resources["memory"]) if "memory" in resources else None,
    )


def _from_addresses(document: Mapping[str, Any]) -> ClusterFile:
    workers = list(document["provider"].get("worker_ips") or ())
    node = Node(kind="machine", cpus=None, gpus=None)
    return ClusterFile(
        name=str(document.get("cluster_name", "")),
        head=node,
        workers=(NodeType(node=node, min_workers=len(workers), max_workers=len(workers)),),
        max_workers=len(workers),
    )


def _from_kuberay(document: Mapping[str, Any]) -> ClusterFile:
    spec = document["spec"]
    # Without an autoscaler there are as many as `replicas` says.
    grows = bool(spec.get("enableInTreeAutoscaling"))
    workers = tuple(
        NodeType(
            node=_pod(str(group.get("groupName", "worker")), group["template"]),
            min_workers=_replicas(group, "minReplicas" if grows else "replicas"),
            max_workers=_replicas(group, "maxReplicas" if grows else "replicas"),
        )
        for group in spec.get("workerGroupSpecs") or ()
    )
    return ClusterFile(
        name=str(document.get("metadata", {}).get("name", "")),
        head=_pod("head", spec["headGroupSpec"]["template"]),
        workers=workers,
        max_workers=sum(worker.max_workers for worker in workers),
    )


def _replicas(group: Mapping[str, Any], name: str) -> int:
    return int(group.get(name, group.get("replicas", 0)))


def _pod(kind: str, template: Mapping[str, Any]) -> Node:
    resources = template["spec"]["containers"][0].get("resources") or {}
    size = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
    return Node(
        kind=kind,
        cpus=math.floor(quantity(size["cpu"])) if "cpu" in size else None,
        gpus=int(quantity(size.get("nvidia.com/gpu", 0))),
        memory_bytes=int(quantity(size["memory"])) if "memory" in size else None,
    )


def quantity(value: Any) -> float:
    """A quantity of Kubernetes as a number: 500m, 28Gi, 8."""
    found = re.fullmatch(r"([\d.]+)(m|[kMGT]i?)?", str(value))
    if found is None:
        raise ValueError(f"{value!r} is not a quantity")
    unit = found[2] or ""
    if unit == "m":
        return float(found[1]) / 1000
    base = 1024 if unit.endswith("i") else 1000
    return float(found[1]) * float(base ** (" kMGT".index(unit[0]) if unit else 0))
