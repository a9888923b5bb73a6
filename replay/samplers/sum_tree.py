"""Binary tree of partial sums: proportional sampling and updates in O(log n), vectorised."""

from __future__ import annotations

import numpy as np

from replay.types import Float64Array, Int64Array

# Adding up so many nodes takes about as long as going down a level with one target.
_NODES_PER_TARGET = 4


class SumTree:
    """Non-negative values at leaves 0..capacity-1, with every inner node the sum of its children.

    The nodes lie in one array: node 1 is the root, node i has the children 2i and 2i+1, and the
    leaves fill the last half. Values are float64: in a float32 tree rounding lets a query end at
    a leaf whose value is zero.
    """

    def __init__(self, capacity: int) -> None:
        """Make a tree of zeros."""
        # Number of leaves.
        self.capacity = capacity
        self._num_levels = max(1, (capacity - 1).bit_length())
        self._first_leaf = 1 << self._num_levels
        self._nodes: Float64Array = np.zeros(2 * self._first_leaf, np.float64)

    @property
    def total(self) -> float:
        """Sum of all values."""
        return float(self._nodes[1])

    def _children(self) -> Float64Array:
        """A view whose row i holds the two children of node i; row 0 means nothing."""
        return self._nodes.reshape(-1, 2)

    def get(self, indices: Int64Array) -> Float64Array:
        """Values of the leaves `indices`."""
        return self._nodes.take(self._first_leaf + indices)

    def nonzero(self) -> Int64Array:
        """Leaves with a value above 0, ascending."""
        return np.flatnonzero(self._nodes[self._first_leaf : self._first_leaf + self.capacity])

    def set(self, indices: Int64Array, values: Float64Array | float) -> None:
        """Set leaves and all sums above them. Of an index given twice the last value counts.

        ValueError for a value that is negative or not finite, before anything is set.
        """
        if not np.all((np.asarray(values) >= 0.0) & (np.asarray(values) < np.inf)):
            raise ValueError("values in a sum tree must be finite and not negative")
        children = self._children()
        nodes = self._first_leaf + np.asarray(indices, np.int64)
        self._nodes[nodes] = values
        level = self._first_leaf // 2  # First node of a level, and their number.
        # Sums are made anew, never adjusted: then no error adds up, and a parent that comes twice
        # gets the same sum twice.
        while level > len(nodes):
            nodes = nodes >> 1
            pairs = children.take(nodes, axis=0)
            self._nodes[nodes] = pairs[:, 0] + pairs[:, 1]
            level //= 2
        # A level of fewer nodes than there are indices is cheaper to sum as a whole.
        while level:
            pairs = children[level : 2 * level]
            np.add(pairs[:, 0], pairs[:, 1], out=self._nodes[level : 2 * level])
            level //= 2

    def query(self, targets: Float64Array) -> Int64Array:
        """For each target in [0, total), the leaf in whose stretch of the running sum it falls.

        The leaves' values laid end to end cover [0, total); leaf i covers
        [sum of values before i, that plus its own value). Never a leaf with the value 0.
        """
        if self.total <= 0.0:
            raise ValueError("cannot draw from a sum tree whose total is 0")
        # A level with few more nodes than targets is searched as a whole.
        level = min(self._first_leaf, 1 << (_NODES_PER_TARGET * len(targets)).bit_length())
        starts = np.zeros(level, np.float64)
        np.cumsum(self._nodes[level : 2 * level - 1], out=starts[1:])
        nodes = np.searchsorted(starts, targets, side="right") - 1
        remaining = targets - starts[nodes]
        nodes += level
        # In place: arrays for the results of every step would take as long again.
        while level < self._first_leaf:
            nodes += nodes
            left = self._nodes.take(nodes)
            go_right = remaining >= left
            left *= go_right
            remaining -= left
            nodes += go_right.view(np.int8)  # Which is added in half the time of a bool.
            level *= 2
        leaves = nodes - self._first_leaf
        # Rounding may leave a target just past the last leaf of its stretch that is not zero.
        is_past = self.get(leaves) == 0.0
        if np.count_nonzero(is_past):
            held = self.nonzero()
            leaves[is_past] = held[np.searchsorted(held, leaves[is_past]) - 1]
        return leaves

    def check_valid(self) -> None:
        """Raises ValueError if a value is negative or a node is not the sum of its children."""
        inner = self._nodes[1 : self._first_leaf]
        children = self._children()[1 : self._first_leaf].sum(axis=1)
        if not np.array_equal(inner, children):
            raise ValueError("sum tree: a node is not the sum of its children")
        if np.any(self._nodes < 0) or not np.all(np.isfinite(self._nodes)):
            raise ValueError("sum tree: a value is negative or not finite")
        if np.any(self._nodes[self._first_leaf + self.capacity :] != 0):
            raise ValueError("sum tree: a leaf beyond the capacity is not zero")
