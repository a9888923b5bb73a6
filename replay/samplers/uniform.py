"""Every transition alike: no priorities and no tree."""

from __future__ import annotations

import numpy as np

from replay.samplers.base import equal_parts
from replay.types import Float32Array, Int64Array


class UniformSampler:
    """P = 1 / N. The slots in the draw lie packed in one array; a hole is filled from its end."""

    def __init__(self, capacity: int) -> None:
        """Nothing is in the draw of slots 0..capacity-1."""
        self._packed = np.zeros(capacity, np.int64)
        self._places = np.full(capacity, -1, np.int64)  # Of each slot in `_packed`.
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def admit(self, slots: Int64Array, priorities: Float32Array, values: Float32Array) -> None:
        """Put slots into the draw, whatever their priorities."""
        stop = self._size + len(slots)
        self._packed[self._size : stop] = slots
        self._places[slots] = np.arange(self._size, stop)
        self._size = stop

    def retire(self, slots: Int64Array) -> None:
        """Take slots out of the draw."""
        size = self._size - len(slots)
        places = self._places[slots]
        self._places[slots] = -1
        end = self._packed[size : self._size]
        movers = end[self._places[end] >= 0]
        holes = places[places < size]
        self._packed[holes] = movers
        self._places[movers] = holes
        self._size = size

    def update(self, slots: Int64Array, priorities: Float32Array) -> None:
        """Priorities mean nothing here."""

    def draw(self, size: int, rng: np.random.Generator) -> tuple[Int64Array, Float32Array]:
        """One from each of `size` equal parts of the packed slots; 1 / (N * P) is 1."""
        if self._size == 0:
            raise ValueError("nothing can be drawn yet")
        places = (equal_parts(size, rng) * self._size).astype(np.int64)
        # Rounding may turn the largest part into 1.
        slots = self._packed[np.minimum(places, self._size - 1)]
        return slots, np.ones(size, np.float32)

    def check_valid(
        self, slots: Int64Array, priorities: Float32Array, values: Float32Array
    ) -> None:
        """Raises ValueError unless exactly `slots` are packed, each where its place says."""
        packed = self._packed[: self._size]
        if not np.array_equal(np.sort(packed), slots):
            raise ValueError("the draw is not among the ready transitions")
        if not np.array_equal(self._places[packed], np.arange(self._size)):
            raise ValueError("a slot in the draw does not lie where its place says")
        if np.count_nonzero(self._places >= 0) != self._size:
            raise ValueError("a slot out of the draw has a place")
