"""What machines a cluster has, from its file: Ray's own (`ray up`) or KubeRay's (kind RayCluster).

Nothing is asked of a cloud, and no names of its machines are known here: CPUs and GPUs are those of
a node type's `resources`, and what a file does not say is None.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine of a cluster."""

    kind: str
    cpus: int | None
    gpus: int | None = 0
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes with as few workers as there may be, and with as many; the head is the first."""

    smallest: tuple[Node, ...]
    largest: tuple[Node, ...]


def read_cluster(path: Path) -> Cluster:
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
                    return _from_kuberay(document["spec"])
                if "available_node_types" in document:
                    return _from_node_types(document)
                if "provider" in document and "head_ip" in document["provider"]:
                    return _from_addresses(document["provider"])
    # What is missing, of another type, or not a number that can be.
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, StopIteration) as e:
        raise ValueError(f"the cluster file {path} is damaged: {e!r}") from None
    raise ValueError(
        f"{path} is not the file of a cluster: it has neither available_node_types, nor the "
        "provider's head_ip, nor the kind RayCluster"
    )


def _cluster(head: Node, workers: Sequence[tuple[Node, int, int]], limit: int) -> Cluster:
    """Put nodes together: each kind of worker with its least and its greatest number."""

    def nodes(counts: Sequence[int]) -> tuple[Node, ...]:
        kinds = [worker for worker, _, _ in workers]
        all_workers = [k for kind, n in zip(kinds, counts, strict=True) for k in [kind] * n]
        return (head, *all_workers[:limit])

    return Cluster(nodes([n for _, n, _ in workers]), nodes([n for _, _, n in workers]))


def _from_node_types(document: Mapping[str, Any]) -> Cluster:
    types = document["available_node_types"]
    head = document.get("head_node_type", next(iter(types)))
    limit = int(document.get("max_workers", 2))
    workers = [
        (
            _node(name, spec),
            int(spec.get("min_workers", 0)),
            min(limit, int(spec.get("max_workers", limit))),
        )
        for name, spec in types.items()
        if name != head
    ]
    return _cluster(_node(head, types[head]), workers, limit)


def _node(name: str, spec: Mapping[str, Any]) -> Node:
    resources = spec.get("resources") or {}
    return Node(
        kind=name,
        cpus=int(resources["CPU"]) if "CPU" in resources else None,
        gpus=int(resources.get("GPU", 0)),
        memory_bytes=int(resources["memory"]) if "memory" in resources else None,
    )


def _from_addresses(provider: Mapping[str, Any]) -> Cluster:
    node = Node(kind="machine", cpus=None, gpus=None)
    count = len(list(provider.get("worker_ips") or ()))
    return _cluster(node, [(node, count, count)], count)


def _from_kuberay(spec: Mapping[str, Any]) -> Cluster:
    # Without an autoscaler there are as many as `replicas` says.
    grows = bool(spec.get("enableInTreeAutoscaling"))
    workers = []
    for group in spec.get("workerGroupSpecs") or ():
        replicas = group.get("replicas", 0)
        least, most = (
            int(group.get(name, replicas)) if grows else int(replicas)
            for name in ("minReplicas", "maxReplicas")
        )
        workers.append(
            (_pod(str(group.get("groupName", "worker")), group["template"]), least, most)
        )
    limit = sum(most for _, _, most in workers)
    return _cluster(_pod("head", spec["headGroupSpec"]["template"]), workers, limit)


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
