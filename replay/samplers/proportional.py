"""The proportional variant of prioritized replay: draws by priority."""

from __future__ import annotations

import numpy as np

from replay.samplers.base import draw_from_tree
from replay.samplers.sum_tree import SumTree
from replay.types import Float32Array, Float64Array, Int64Array

_MIN_PRIORITY = 1e-6


class ProportionalSampler:
    """P(i) = p_i^exponent / sum_j p_j^exponent, drawn from a sum tree.

    Proportional prioritization (Schaul et al. 2016, https://arxiv.org/abs/1511.05952, section
    3.3). With exponent 0 all are drawn alike. A priority counts as at least 1e-6, so that every
    transition can be drawn and no float rounds it away.
    """

    def __init__(self, capacity: int, *, exponent: float) -> None:
        """Nothing is in the draw of slots 0..capacity-1."""
        self._exponent = exponent
        self._tree = SumTree(capacity)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def admit(self, slots: Int64Array, priorities: Float32Array, values: Float32Array) -> None:
        """Put slots into the draw."""
        self._size += len(slots)
        self._tree.set(slots, self._weights(priorities))

    def retire(self, slots: Int64Array) -> None:
        """Take slots out of the draw."""
        self._size -= len(slots)
        self._tree.set(slots, 0.0)

    def update(self, slots: Int64Array, priorities: Float32Array) -> None:
        """Change priorities."""
        self._tree.set(slots, self._weights(priorities))

    def _weights(self, priorities: Float32Array) -> Float64Array:
        weights: Float64Array = (
            np.maximum(priorities.astype(np.float64), _MIN_PRIORITY) ** self._exponent
        )
        return weights

    def draw(self, size: int, rng: np.random.Generator) -> tuple[Int64Array, Float32Array]:
        """One from each of `size` equal parts of the sum of all weights."""
        return draw_from_tree(self._tree, size, rng, num_slots=self._size)

    def check_valid(
        self, slots: Int64Array, priorities: Float32Array, values: Float32Array
    ) -> None:
        """Raises ValueError unless the tree holds exactly the weights of `slots`."""
        self._tree.check_valid()
        if self._size != len(slots):
            raise ValueError("the number of ready transitions is wrong")
        expected = np.zeros(self._tree.capacity, np.float64)
        expected[slots] = self._weights(priorities)
        if not np.array_equal(self._tree.get(np.arange(self._tree.capacity)), expected):
            raise ValueError("the tree does not hold the priorities")
