"""One game's prioritized replay: a ring of transitions and a sum tree over those that are ready."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replay.ring import TableSpec, TransitionRing
from replay.sum_tree import SumTree
from replay.types import Chunk, Float32Array, Float64Array, Int64Array

_MIN_PRIORITY = 1e-6


@dataclass(slots=True)
class TableCounts:
    """What happened to one table since it was made."""

    inserted: int = 0
    """Transitions added."""
    sampled: int = 0
    """Transitions drawn."""
    overwritten_unsampled: int = 0
    """Transitions that were ready but overwritten (or a frame of theirs) before they were drawn."""
    stale_updates: int = 0
    """Priority updates dropped because their transition could no longer be drawn."""


class PrioritizedTable:
    """Adds chunks, draws transitions with probability proportional to priority^exponent.

    Proportional prioritization (Schaul et al. 2016, https://arxiv.org/abs/1511.05952, section 3.3).
    With exponent 0 all transitions that are ready are drawn alike. A transition that is not ready
    (its frames or successors are missing) has no weight in the tree.
    """

    def __init__(
        self, spec: TableSpec, *, priority_exponent: float, rng: np.random.Generator
    ) -> None:
        """ValueError for an exponent outside [0, 1] or a spec that cannot be."""
        if not 0.0 <= priority_exponent <= 1.0:
            raise ValueError(f"priority_exponent must lie between 0 and 1, got {priority_exponent}")
        self.spec = spec
        self.ring = TransitionRing(spec)
        self.counts = TableCounts()
        self._tree = SumTree(spec.capacity)
        self._exponent = priority_exponent
        self._rng = rng
        self._is_ready = np.zeros(spec.capacity, np.bool_)
        self._num_ready = 0
        self._times_sampled = np.zeros(spec.capacity, np.int32)

    @property
    def num_ready(self) -> int:
        """Transitions that can be sampled now."""
        return self._num_ready

    def check_fits(self, chunk: Chunk) -> None:
        """Raises ValueError if `add` would refuse the chunk."""
        self.ring.check_fits(chunk)

    def add(self, chunk: Chunk) -> None:
        """Store a chunk, overwriting the oldest entries.

        ValueError if it does not fit the table, which is then left as it was.
        """
        self.check_fits(chunk)
        slots, broken = self.ring.claim(chunk.num_entries)
        self._retire(np.concatenate([slots, broken]))
        self.ring.write(slots, chunk)
        self._times_sampled[slots] = 0
        self.counts.inserted += chunk.num_transitions
        self._admit(self.ring.completed_by(slots))

    def _retire(self, slots: Int64Array) -> None:
        """Take slots out of the draw for good."""
        ready = np.unique(slots[self._is_ready[slots]])
        self.counts.overwritten_unsampled += int(np.count_nonzero(self._times_sampled[ready] == 0))
        self._is_ready[ready] = False
        self._num_ready -= len(ready)
        self._tree.set(ready, 0.0)

    def _admit(self, candidates: Int64Array) -> None:
        """Put those candidates into the draw that have become ready."""
        candidates = candidates[~self._is_ready[candidates]]
        ready = candidates[self.ring.ready(candidates)]
        self._is_ready[ready] = True
        self._num_ready += len(ready)
        self._tree.set(ready, self._weights(self.ring.priorities[ready]))

    def _weights(self, priorities: Float32Array) -> Float64Array:
        # The floor keeps every ready transition drawable, so that no float rounds it away.
        weights: Float64Array = (
            np.maximum(priorities.astype(np.float64), _MIN_PRIORITY) ** self._exponent
        )
        return weights

    def sample(self, size: int) -> tuple[Int64Array, Float32Array]:
        """Draw transitions with replacement, one from each of `size` equal parts of the total.

        Returns:
            (slots [B], 1 / (N * P) [B]).

        Raises:
            ValueError: nothing can be drawn yet.
        """
        if self._num_ready == 0:
            raise ValueError(f"no transition of {self.spec.game} can be sampled yet")
        parts = (np.arange(size) + self._rng.random(size)) / size
        slots = self._tree.query(parts * self._tree.total)
        self.counts.sampled += size
        np.add.at(self._times_sampled, slots, 1)
        inverse = self._tree.total / (self._num_ready * self._tree.get(slots))
        return slots, inverse.astype(np.float32)

    def check_update(
        self, slots: Int64Array, generations: Int64Array, priorities: Float32Array
    ) -> None:
        """Raises ValueError if `update_priorities` would refuse these keys or priorities."""
        if not slots.shape == generations.shape == priorities.shape:
            raise ValueError(
                f"priorities for {self.spec.game}: {slots.shape} slots, {generations.shape} "
                f"generations and {priorities.shape} priorities do not fit each other"
            )
        if np.any((slots < 0) | (slots >= self.spec.capacity)):
            raise ValueError(f"priorities for {self.spec.game}: a key lies outside the table")
        if not np.all((priorities >= 0) & (priorities <= np.finfo(np.float32).max)):
            raise ValueError(f"priorities for {self.spec.game} must be finite and not negative")

    def update_priorities(
        self, slots: Int64Array, generations: Int64Array, priorities: Float32Array
    ) -> None:
        """Set new priorities; of a key given twice the last counts.

        Keys whose transition can no longer be drawn (overwritten, or a frame of it) are dropped
        and counted. ValueError for malformed ones, before any is set.
        """
        self.check_update(slots, generations, priorities)
        current = (self.ring.generations[slots] == generations) & self._is_ready[slots]
        self.counts.stale_updates += int(np.count_nonzero(~current))
        slots = slots[current]
        self.ring.priorities[slots] = priorities[current]
        self._tree.set(slots, self._weights(self.ring.priorities[slots]))

    def check_valid(self) -> None:
        """Raises ValueError if ring, tree and readiness contradict each other."""
        self.ring.check_valid()
        self._tree.check_valid()
        held = np.flatnonzero(self.ring.generations >= 0)
        expected = np.zeros(self.spec.capacity, np.bool_)
        expected[held[self.ring.ready(held)]] = True
        if not np.array_equal(expected, self._is_ready):
            raise ValueError(f"{self.spec.game}: the draw is not among the ready transitions")
        if self._num_ready != np.count_nonzero(self._is_ready):
            raise ValueError(f"{self.spec.game}: the number of ready transitions is wrong")
        weights = self._tree.get(np.arange(self.spec.capacity))
        ready_weights = self._weights(self.ring.priorities)
        if not np.array_equal(weights, np.where(self._is_ready, ready_weights, 0.0)):
            raise ValueError(f"{self.spec.game}: the tree does not hold the priorities")
