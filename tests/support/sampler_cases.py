"""Every sampler under a name, with the probabilities that its paper gives it."""

from __future__ import annotations

from collections.abc import Sequence

from slow_samplers import Item, SlowHierarchy, slow_proportional, slow_rank, slow_uniform

from replay.samplers import (
    HierarchicalSampler,
    ProportionalSampler,
    RankBasedSampler,
    Sampler,
    UniformSampler,
)

EXPONENT = 0.6

HIERARCHICAL = [
    "hierarchical size rank within width",
    "hierarchical size proportional full quantile",
    "hierarchical uniform rank within width",
    "hierarchical uniform proportional full width",
    "hierarchical uniform rank full quantile",
]
"""Each with how partitions are drawn, the sampler within, what weights correct, and the edges."""
EXACT = ["uniform", "proportional", "rank", *HIERARCHICAL]
"""Samplers whose probabilities are at every moment those of the paper."""
EVERY = [*EXACT, "drifting rank"]


def build_hierarchy(
    capacity: int,
    *,
    draw: str = "size",
    order: str = "rank",
    correction: str = "within",
    edges: str = "width",
    num_partitions: int = 4,
    first_edges_after: int = 8,
) -> HierarchicalSampler:
    """A new sampler whose edges are set early."""

    def inner() -> Sampler:
        if order == "rank":
            return RankBasedSampler(capacity, exponent=EXPONENT, max_drift=0.0)
        return ProportionalSampler(capacity, exponent=EXPONENT)

    return HierarchicalSampler(
        capacity,
        num_partitions=num_partitions,
        partition_draw=draw,
        edges=edges,
        correction=correction,
        build_inner=inner,
        first_edges_after=first_edges_after,
    )


def build_case(name: str, capacity: int) -> Sampler:
    kind, *options = name.split()
    if kind == "uniform":
        return UniformSampler(capacity)
    if kind == "proportional":
        return ProportionalSampler(capacity, exponent=EXPONENT)
    if kind == "rank":
        return RankBasedSampler(capacity, exponent=EXPONENT, max_drift=0.0)
    if kind == "drifting":
        return RankBasedSampler(capacity, exponent=EXPONENT, max_drift=0.5)
    draw, order, correction, edges = options
    return build_hierarchy(capacity, draw=draw, order=order, correction=correction, edges=edges)


def expected(
    name: str, items: Sequence[Item], edges: Sequence[float]
) -> tuple[list[float], list[float]]:
    """(P, inverse probabilities as importance weights use them) of each item, by slow loops."""
    kind, *options = name.split()
    if kind == "hierarchical":
        draw, order, correction, _ = options
        return SlowHierarchy(
            partition_draw=draw, order=order, correction=correction, exponent=EXPONENT
        )(items, edges)
    if kind == "uniform":
        probabilities = slow_uniform(items)
    elif kind == "proportional":
        probabilities = slow_proportional(items, EXPONENT)
    else:
        probabilities = slow_rank(items, EXPONENT)
    return probabilities, [1 / (len(items) * p) for p in probabilities]


def edges_of(sampler: Sampler) -> list[float]:
    """Between its partitions; none where there are none."""
    return sampler.edges.tolist() if isinstance(sampler, HierarchicalSampler) else []
