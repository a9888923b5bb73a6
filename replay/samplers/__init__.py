"""How transitions of one game are drawn: five samplers that a table cannot tell apart.

Each chooses among the slots that were admitted and not yet retired. It trusts its table: slots lie
below the capacity, priorities are finite and not negative, values are finite, and nothing is
admitted twice or retired or updated without being there. `draw` gives (slots [B], 1 / (N * P) [B]),
drawn with replacement, one from each of B equal parts of the total probability, so that a slot with
probability P comes B * P times on average; ValueError if nothing is in the draw.
"""

from __future__ import annotations

from typing import TypeAlias

from replay.config import ReplayConfig
from replay.samplers.hierarchical import HierarchicalSampler
from replay.samplers.proportional import ProportionalSampler
from replay.samplers.rank_based import RankBasedSampler
from replay.samplers.recent import RecentSampler
from replay.samplers.uniform import UniformSampler
from replay.storage.ring import TableSpec

__all__ = [
    "HierarchicalSampler",
    "ProportionalSampler",
    "RankBasedSampler",
    "RecentSampler",
    "Sampler",
    "UniformSampler",
    "build_sampler",
    "sampler_bytes",
]

Sampler: TypeAlias = (
    UniformSampler | ProportionalSampler | RankBasedSampler | HierarchicalSampler | RecentSampler
)

# Bytes of a slot: two nodes of 8, and twice that where the capacity is just above a power of 2.
_TREE_BYTES = 32
_RANK_BYTES = 8
# Value and partition of a slot.
_PARTITION_BYTES = 9


def sampler_bytes(config: ReplayConfig) -> int:
    """Memory of one slot in the sampler that these settings ask for, at the most."""
    by_rank = _TREE_BYTES + _RANK_BYTES
    if config.sampler == "hierarchical":
        inner = by_rank if config.partition_order == "rank" else _TREE_BYTES
        return config.num_partitions * inner + _PARTITION_BYTES
    return by_rank if config.sampler == "rank" else _TREE_BYTES


def build_sampler(config: ReplayConfig, spec: TableSpec) -> Sampler:
    """A new sampler for one table.

    ValueError for partitions by the teacher's value where there is no teacher.
    """
    exponent = config.priority_exponent

    def by_priority() -> ProportionalSampler:
        return ProportionalSampler(spec.capacity, exponent=exponent)

    def by_rank() -> RankBasedSampler:
        return RankBasedSampler(spec.capacity, exponent=exponent)

    if config.sampler == "uniform":
        return UniformSampler(spec.capacity)
    if config.sampler == "proportional":
        return by_priority()
    if config.sampler == "rank":
        return by_rank()
    if config.sampler == "recent":
        return RecentSampler(
            spec.capacity, num_recent=config.recent_size, older_share=config.recent_older_share
        )
    if spec.entry.num_teacher_actions == 0:
        raise ValueError(
            "replay.sampler hierarchical parts transitions by their teacher's values, but "
            f"{spec.game} has no teacher; use uniform, proportional or rank"
        )
    return HierarchicalSampler(
        spec.capacity,
        num_partitions=config.num_partitions,
        partition_draw=config.partition_draw,
        edges=config.partition_edges,
        correction=config.partition_correction,
        build_inner=by_rank if config.partition_order == "rank" else by_priority,
    )
