"""The rank-based variant of prioritized replay: draws by the rank of the priority."""

from __future__ import annotations

import numpy as np

from replay.samplers.base import draw_from_tree
from replay.samplers.sum_tree import SumTree
from replay.types import Float32Array, Float64Array, Int64Array

_MAX_DRIFT = 1 / 16


class RankBasedSampler:
    """P(i) = rank(i)^-exponent / sum_j rank(j)^-exponent; rank 1 is the highest priority.

    (Schaul et al. 2016, https://arxiv.org/abs/1511.05952, section 3.3.) Unlike priorities
    themselves, ranks are not moved by outliers. Equal priorities share the mean of their ranks, so
    they are drawn alike.

    All transitions are ranked anew before a draw when more than `max_drift * N` were admitted,
    retired or updated since the last time. In between, one that comes or changes gets at once the
    rank of its priority among those that were ranked last, and the others keep theirs. One change
    moves no other transition by more than one rank, so no rank is off by more than the number of
    changes since: at most `max_drift * N` (the paper's heap, sorted every million steps, gives no
    bound). Probabilities that `draw` gives are those of the ranks as used, without error.
    """

    def __init__(self, capacity: int, *, exponent: float, max_drift: float = _MAX_DRIFT) -> None:
        """Nothing is in the draw of slots 0..capacity-1; a drift of 0 ranks all at every change."""
        self._exponent = exponent
        self._max_drift = max_drift
        self._tree = SumTree(capacity)  # Of rank^-exponent.
        self._priorities = np.zeros(capacity, np.float32)
        self._ranked: Float32Array = np.zeros(0, np.float32)  # -priority when ranked, ascending.
        # Since all were ranked: the most that a rank is off.
        self.num_changes = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def admit(self, slots: Int64Array, priorities: Float32Array, values: Float32Array) -> None:
        """Put slots into the draw, each at the rank of its priority."""
        self._size += len(slots)
        self.update(slots, priorities)

    def retire(self, slots: Int64Array) -> None:
        """Take slots out of the draw."""
        self._size -= len(slots)
        self.num_changes += len(slots)
        self._tree.set(slots, 0.0)

    def update(self, slots: Int64Array, priorities: Float32Array) -> None:
        """Move slots to the ranks of their new priorities."""
        self.num_changes += len(slots)
        self._priorities[slots] = priorities
        higher = np.searchsorted(self._ranked, -priorities, side="left")
        not_lower = np.searchsorted(self._ranked, -priorities, side="right")
        self._tree.set(slots, self._weights((higher + not_lower) / 2 + 1))

    def _weights(self, ranks: Float64Array) -> Float64Array:
        weights: Float64Array = ranks**-self._exponent
        return weights

    def _rank_all(self) -> None:
        slots = self._tree.nonzero()
        order = np.argsort(-self._priorities[slots])
        self._ranked = -self._priorities[slots[order]]
        # Runs of equal priorities, [first, stop) in the order; ranks count from 1.
        first = np.flatnonzero(np.diff(self._ranked, prepend=np.nan) != 0)
        stop = np.append(first[1:], len(slots))
        ranks = np.repeat((first + 1 + stop) / 2, stop - first)
        self._tree.set(slots[order], self._weights(ranks))
        self.num_changes = 0

    def draw(self, size: int, rng: np.random.Generator) -> tuple[Int64Array, Float32Array]:
        """One from each of `size` equal parts of the sum of all weights."""
        if self.num_changes > self._max_drift * self._size:
            self._rank_all()
        return draw_from_tree(self._tree, size, rng, num_slots=self._size)

    def check_valid(
        self, slots: Int64Array, priorities: Float32Array, values: Float32Array
    ) -> None:
        """Raises ValueError unless exactly `slots` are in the draw, at ranks within the drift."""
        self._tree.check_valid()
        if self._size != len(slots) or not np.array_equal(self._tree.nonzero(), slots):
            raise ValueError("the draw is not among the ready transitions")
        if not np.array_equal(self._priorities[slots], priorities):
            raise ValueError("the ranks do not follow the priorities")
        ordered = np.sort(-priorities)
        higher = np.searchsorted(ordered, -priorities, side="left")
        not_lower = np.searchsorted(ordered, -priorities, side="right")
        # Half a rank more: a mean rank may have gained or lost an equal since.
        drift = self.num_changes + 0.5
        lightest = self._weights((not_lower + drift).astype(np.float64))
        heaviest = self._weights(np.maximum(higher + (1.0 - drift), 1.0).astype(np.float64))
        weights = self._tree.get(slots)
        # The last bits of a power may depend on where in an array it is computed.
        if np.any(weights < lightest * (1 - 1e-12)) or np.any(weights > heaviest * (1 + 1e-12)):
            raise ValueError("a rank is off by more than the changes since all were ranked")
