"""What goes over the network between the nodes of a cluster, and the pace that it allows.

Chunks and batches go with every step. Weights go to every actor that has fallen behind, but no more
often than an actor asks for them. All actors are taken to be on other nodes than replay.
"""

from __future__ import annotations

from benchmarks.planning.probe import Probe
from benchmarks.planning.workload import Workload

# Most fetches of an actor (docs/architecture.md, "Weights and their versions").
MAX_WEIGHT_PULLS_PER_S = 5.0


def traffic(
    work: Workload, probe: Probe, *, rate: float, actors: int, nodes: int
) -> dict[str, float]:
    """Bytes per second by kind, at so many steps per second."""
    pulls = actors * min(_publications_per_step(work) * rate, MAX_WEIGHT_PULLS_PER_S)
    bulk = {kind: size * rate for kind, size in _bytes_per_step(work, probe, nodes=nodes).items()}
    return {**bulk, "weights": 0.0 if nodes == 1 else pulls * probe.weights_bytes}


def largest_rate(
    work: Workload, probe: Probe, bytes_per_s: float, *, actors: int, nodes: int
) -> float:
    """Steps per second at which `traffic` comes to so much; for more than one node.

    Weights grow with the pace until actors fetch them as often as they may, and no more from
    there: so the greater of the two solutions is the one.
    """
    bulk = sum(_bytes_per_step(work, probe, nodes=nodes).values())
    weights = actors * probe.weights_bytes
    growing = bytes_per_s / (bulk + weights * _publications_per_step(work))
    return max(growing, (bytes_per_s - weights * MAX_WEIGHT_PULLS_PER_S) / bulk)


def _publications_per_step(work: Workload) -> float:
    return work.samples_per_insert / work.batch_size / work.publish_period


def _bytes_per_step(work: Workload, probe: Probe, *, nodes: int) -> dict[str, float]:
    """Bytes between nodes for every step, with all actors on other nodes than replay."""
    away = (nodes - 1) / nodes if work.spread else 0.0
    return {
        "chunks": probe.chunk_bytes_per_step if nodes > 1 else 0.0,
        "batches": away * work.samples_per_insert * probe.batch_bytes_per_sample,
    }
