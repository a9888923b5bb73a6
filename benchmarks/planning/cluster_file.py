"""What machines a cluster has, from its file: Ray's own (`ray up`) or KubeRay's (kind RayCluster).

Nothing is asked of a cloud. Where the file does not say how many CPUs a machine has, the name of
its kind does, and what cannot be known is None.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_CPUS_OF_SIZE = {"medium": 1, "large": 2, "xlarge": 4}
_GPU_FAMILIES = {
    "g4dn": "T4",
    "g5": "A10G",
    "g6": "L4",
    "g6e": "L40S",
    "p3": "V100",
    "p4d": "A100",
    "p5": "H100",
    "g2": "L4",
    "a2": "A100",
    "a3": "H100",
}
"""Of AWS and Google Cloud."""
_NUM_GPUS = {
    **{(family, cpus): 4 for family in ("g4dn", "g5", "g6", "g6e") for cpus in (48, 96)},
    **{(family, 192): 8 for family in ("g5", "g6", "g6e")},
    **{("p3", 32): 4, ("p3", 64): 8, ("p4d", 96): 8, ("p5", 192): 8},
    **{("g2", 24): 2, ("g2", 48): 4, ("g2", 96): 8},
}
"""Of machines that have more than one, by family and CPUs."""
_GIB_PER_CPU = {"c": 2.0, "m": 4.0, "r": 8.0, "g": 4.0, "n2": 4.0, "e2": 4.0, "n1": 3.75}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine of a cluster."""

    kind: str
    cpus: int | None
    """None: the file does not say."""
    gpus: int | None = 0
    """None: the file does not say."""
    gpu: str = ""
    """What kind; empty if unknown or none."""
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
    max_workers: int = 0
    """Of all kinds together."""

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
    config = spec.get("node_config") or {}
    machine = str(config.get("InstanceType") or config.get("machineType") or "").rpartition("/")[2]
    by_name = node_of_machine(name, machine)
    gpus = int(resources.get("GPU", by_name.gpus or 0))
    return Node(
        kind=name if not machine else f"{name} ({machine})",
        cpus=_whole(resources.get("CPU"), by_name.cpus),
        gpus=gpus,
        gpu=by_name.gpu if gpus else "",
        memory_bytes=_whole(resources.get("memory"), by_name.memory_bytes),
    )


def _whole(value: Any, otherwise: int | None) -> int | None:
    return otherwise if value is None else int(value)


def node_of_machine(kind: str, machine: str) -> Node:
    """CPUs, memory and GPUs by a machine's name: c7i.4xlarge of AWS, n2-standard-16 of Google."""
    family, cpus = "", None
    if found := re.fullmatch(r"([a-z0-9-]+)\.(\d*)([a-z]+)", machine):
        family = found[1]
        size = _CPUS_OF_SIZE.get(found[3])
        cpus = size * int(found[2] or 1) if size else None
    elif found := re.fullmatch(r"([a-z]\d[a-z]?)-[a-z]+-(\d+)", machine):
        family, cpus = found[1], int(found[2])
    per_cpu = _GIB_PER_CPU.get(family, _GIB_PER_CPU.get(family[:1])) if cpus else None
    gpu = _GPU_FAMILIES.get(family, "")
    return Node(
        kind=kind,
        cpus=cpus,
        gpu=gpu,
        gpus=_NUM_GPUS.get((family, cpus or 0), 1) if gpu else 0,
        memory_bytes=int(per_cpu * cpus * 2**30) if per_cpu and cpus else None,
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
