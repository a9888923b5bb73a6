"""Binary tree of partial sums: proportional sampling and updates in O(log n), vectorised."""

from __future__ import annotations

import numpy as np

from replay.types import Float64Array, Int64Array


class SumTree:
    """Non-negative values at leaves 0..capacity-1, with every inner node the sum of its children.

    The nodes lie in one array: node 1 is the root, node i has the children 2i and 2i+1, and the
    leaves fill the last half. Values are float64: in a float32 tree rounding lets a query end at
    a leaf whose value is zero.
    """

    def __init__(self, capacity: int) -> None:
        """Make a tree of zeros; ValueError unless capacity is positive."""
        if capacity < 1:
            raise ValueError(f"a sum tree needs a positive capacity, got {capacity}")
        self._capacity = capacity
        self._num_levels = max(1, (capacity - 1).bit_length())
        self._first_leaf = 1 << self._num_levels
        self._nodes: Float64Array = np.zeros(2 * self._first_leaf, np.float64)

    @property
    def total(self) -> float:
        """Sum of all values."""
        return float(self._nodes[1])

    def get(self, indices: Int64Array) -> Float64Array:
        """Values of the leaves `indices`."""
        return self._nodes[self._first_leaf + indices]

    def set(self, indices: Int64Array, values: Float64Array | float) -> None:
        """Set leaves and all sums above them. Of an index given twice the last value counts.

        ValueError for a value that is negative or not finite, before anything is set.
        """
        if not np.all((np.asarray(values) >= 0.0) & (np.asarray(values) < np.inf)):
            raise ValueError("values in a sum tree must be finite and not negative")
        nodes = self._first_leaf + np.asarray(indices, np.int64)
        self._nodes[nodes] = values
        for _ in range(self._num_levels):
            # Parents are summed anew, so a parent that comes twice gets the same sum twice.
            nodes = nodes >> 1
            left = nodes << 1
            self._nodes[nodes] = self._nodes[left] + self._nodes[left + 1]

    def query(self, targets: Float64Array) -> Int64Array:
        """For each target in [0, total), the leaf in whose stretch of the running sum it falls.

        The leaves' values laid end to end cover [0, total); leaf i covers
        [sum of values before i, that plus its own value). Never a leaf with the value 0.
        """
        if self.total <= 0.0:
            raise ValueError("cannot draw from a sum tree whose total is 0")
        remaining = np.array(targets, np.float64)
        nodes = np.ones(len(remaining), np.int64)
        for _ in range(self._num_levels):
            left = nodes << 1
            left_sums = self._nodes[left]
            # Rounding may leave a target just past the last non-zero leaf; then stay left of it.
            go_right = (remaining >= left_sums) & (self._nodes[left + 1] > 0.0)
            remaining -= np.where(go_right, left_sums, 0.0)
            nodes = left + go_right
        return nodes - self._first_leaf

    def check_valid(self) -> None:
        """Raises ValueError if a value is negative or a node is not the sum of its children."""
        inner = self._nodes[1 : self._first_leaf]
        children = self._nodes[2:].reshape(-1, 2).sum(axis=1)
        if not np.array_equal(inner, children):
            raise ValueError("sum tree: a node is not the sum of its children")
        if np.any(self._nodes < 0) or not np.all(np.isfinite(self._nodes)):
            raise ValueError("sum tree: a value is negative or not finite")
        if np.any(self._nodes[self._first_leaf + self._capacity :] != 0):
            raise ValueError("sum tree: a leaf beyond the capacity is not zero")
