"""Hierarchical prioritized replay: by the teacher's value first, by priority second.

Shape letters:
    B  transitions of one call
    N  transitions that can be drawn now
    J  partitions
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from replay.config import PartitionCorrection, PartitionDraw, PartitionEdges
from replay.samplers.base import equal_parts
from replay.samplers.proportional import ProportionalSampler
from replay.samplers.rank_based import RankBasedSampler
from replay.types import Float32Array, Float64Array, Int64Array

_FIRST_EDGES_AFTER = 1_000
_NOWHERE = -1


class HierarchicalSampler:
    """Draws a partition, then a transition in it: P(i) = P(partition j) * P_j(i).

    Hierarchical prioritized replay (Yin and Pan 2017, "Knowledge Transfer for Deep Reinforcement
    Learning with Hierarchical Experience Replay", AAAI 31). The transitions of a game are
    partitioned by the teacher's value of their states, max_a Q(s, a). The partition is drawn

        "size"     with probability N_j / N, so that a batch is spread over the values as the data
                   are: priorities choose only among states of like value;
        "uniform"  with equal probability among those that are not empty, so that values seen
                   rarely are learned from as often as common ones.

    Within a partition `build_inner`'s sampler draws by the transitions' priorities. With
    `correction` "within", the inverse probabilities are 1 / (N_j * P_j(i)), as in the paper: the
    draw of the partition is meant and stays uncorrected. With "full" they are 1 / (N * P(i)).
    For the draw by size both are the same.

    The edges between partitions are J - 1 values: equal widths between the least and the greatest
    value held ("width", the paper's), or quantiles, which makes all partitions equally large. Until
    1,000 transitions have come there is one partition. Edges are set then, again whenever twice as
    many have come, and from `capacity` on once in every round of the ring, so they lag behind the
    data by at most half of what came.
    """

    def __init__(
        self,
        capacity: int,
        *,
        num_partitions: int,
        partition_draw: PartitionDraw,
        edges: PartitionEdges,
        correction: PartitionCorrection,
        build_inner: Callable[[], ProportionalSampler | RankBasedSampler],
        first_edges_after: int = _FIRST_EDGES_AFTER,
    ) -> None:
        """Nothing is in the draw of slots 0..capacity-1, of at most 127 partitions."""
        self._capacity = capacity
        self._draw_by = partition_draw
        self._edges_by = edges
        self._correction = correction
        self._partitions = [build_inner() for _ in range(num_partitions)]
        self._partition_of = np.full(capacity, _NOWHERE, np.int8)
        self._priorities = np.zeros(capacity, np.float32)
        self._values = np.zeros(capacity, np.float32)
        # [J - 1] Values that part the partitions, ascending; empty until they are first set.
        self.edges: Float64Array = np.zeros(0, np.float64)
        self._num_admitted = 0
        self._next_edges = first_edges_after

    def __len__(self) -> int:
        return sum(len(partition) for partition in self._partitions)

    @property
    def sizes(self) -> Int64Array:
        """[J] Transitions in each partition."""
        return np.array([len(partition) for partition in self._partitions], np.int64)

    def admit(self, slots: Int64Array, priorities: Float32Array, values: Float32Array) -> None:
        """Put slots into the partitions of their values."""
        self._priorities[slots] = priorities
        self._values[slots] = values
        self._put(slots, self._locate(values))
        self._num_admitted += len(slots)
        if self._num_admitted >= self._next_edges:
            self._set_edges()
            self._next_edges = self._num_admitted + min(self._num_admitted, self._capacity)

    def _locate(self, values: Float32Array) -> Int64Array:
        """[B] Partition of each value; a value on an edge lies above it."""
        return np.searchsorted(self.edges, values, side="right").astype(np.int64)

    def _put(self, slots: Int64Array, where: Int64Array) -> None:
        self._partition_of[slots] = where
        for index in np.unique(where).tolist():
            here = slots[where == index]
            self._partitions[index].admit(here, self._priorities[here], self._values[here])

    def retire(self, slots: Int64Array) -> None:
        """Take slots out of their partitions."""
        where = self._partition_of[slots]
        for index in np.unique(where).tolist():
            self._partitions[index].retire(slots[where == index])
        self._partition_of[slots] = _NOWHERE

    def update(self, slots: Int64Array, priorities: Float32Array) -> None:
        """Change priorities; the partitions stay."""
        self._priorities[slots] = priorities
        where = self._partition_of[slots]
        for index in np.unique(where).tolist():
            rows = where == index
            self._partitions[index].update(slots[rows], priorities[rows])

    def _set_edges(self) -> None:
        """Part anew what is held, and move what lies in another partition now."""
        slots = np.flatnonzero(self._partition_of != _NOWHERE)
        if not len(slots):
            return
        values = self._values[slots].astype(np.float64)
        inner_fractions = np.linspace(0.0, 1.0, len(self._partitions) + 1)[1:-1]
        if self._edges_by == "quantile":
            self.edges = np.quantile(values, inner_fractions)
        else:
            low, high = values.min(), values.max()
            self.edges = low + (high - low) * inner_fractions
        where = self._locate(self._values[slots])
        moves = where != self._partition_of[slots]
        self.retire(slots[moves])
        self._put(slots[moves], where[moves])

    def draw(self, size: int, rng: np.random.Generator) -> tuple[Int64Array, Float32Array]:
        """Give each partition its part of `size`, drawn as its sampler draws; ordered by partition.

        The partitions' parts are whole numbers that differ from size * P(j) by less than 1.
        """
        sizes = self.sizes
        if not sizes.any():
            raise ValueError("nothing can be drawn yet")
        present = sizes > 0
        shares: Float64Array = (sizes if self._draw_by == "size" else present) / 1.0
        shares /= shares.sum()
        # Rounding may leave the last edge below the largest part: then it is the last one present.
        where = np.searchsorted(np.cumsum(shares), equal_parts(size, rng), side="right")
        counts = np.bincount(
            np.minimum(where, np.flatnonzero(present)[-1]), minlength=len(self._partitions)
        )
        slots, inverse = [], []
        for index in np.flatnonzero(counts).tolist():
            drawn, inverse_within = self._partitions[index].draw(int(counts[index]), rng)
            if self._correction == "full":
                inverse_within *= np.float32(sizes[index] / (sizes.sum() * shares[index]))
            slots.append(drawn)
            inverse.append(inverse_within)
        return np.concatenate(slots), np.concatenate(inverse)

    def check_valid(
        self, slots: Int64Array, priorities: Float32Array, values: Float32Array
    ) -> None:
        """Raises ValueError unless each slot is in the partition of its value, and only there."""
        if not np.array_equal(np.flatnonzero(self._partition_of != _NOWHERE), slots):
            raise ValueError("the draw is not among the ready transitions")
        if not np.array_equal(self._priorities[slots], priorities):
            raise ValueError("the partitions do not hold the priorities")
        if not np.array_equal(self._values[slots], values):
            raise ValueError("the partitions do not hold the values")
        where = self._locate(values)
        if not np.array_equal(self._partition_of[slots], where):
            raise ValueError("a transition lies in another partition than its value")
        for index, partition in enumerate(self._partitions):
            here = where == index
            partition.check_valid(slots[here], priorities[here], values[here])
