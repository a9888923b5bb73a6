"""The newest transitions, with a share of all others: near to on-policy, yet not blind to the past.

Correcting for an older policy costs an actor-critic signal, so most of its batch should be young;
IMPALA's experiments with replay draw a half of each batch from everything that is kept (Espeholt et
al. 2018, https://arxiv.org/abs/1802.01561, section 5.2.2).
"""

from __future__ import annotations

import numpy as np

from replay.samplers.base import equal_parts
from replay.samplers.uniform import UniformSampler
from replay.types import Float32Array, Int64Array


class RecentSampler:
    """P = (1 - s) / M for each of the newest M, plus s / N for each of all N.

    s is the share of older ones. Newest are those that came into the draw last; where one of them
    is taken out, there are fewer until others come.
    """

    def __init__(self, capacity: int, *, num_recent: int, older_share: float) -> None:
        """Nothing is in the draw of slots 0..capacity-1."""
        self._all = UniformSampler(capacity)
        self._older_share = older_share
        # A ring of the slots that came last, and the number of each slot's arrival.
        self._newest = np.full(min(num_recent, capacity), -1, np.int64)
        self._arrivals = np.full(capacity, -1, np.int64)
        self._num_arrived = 0

    def __len__(self) -> int:
        return len(self._all)

    def admit(self, slots: Int64Array, priorities: Float32Array, values: Float32Array) -> None:
        """Put slots into the draw, the last one as the newest, whatever their priorities."""
        self._all.admit(slots, priorities, values)
        numbers = self._num_arrived + np.arange(len(slots))
        self._arrivals[slots] = numbers
        kept = slice(max(0, len(slots) - len(self._newest)), None)
        self._newest[numbers[kept] % len(self._newest)] = slots[kept]
        self._num_arrived += len(slots)

    def retire(self, slots: Int64Array) -> None:
        """Take slots out of the draw."""
        self._all.retire(slots)
        self._arrivals[slots] = -1

    def update(self, slots: Int64Array, priorities: Float32Array) -> None:
        """Priorities mean nothing here."""

    def draw(self, size: int, rng: np.random.Generator) -> tuple[Int64Array, Float32Array]:
        """Draw as many from either part as equal parts of their probabilities give."""
        recent = self._recent()
        share = self._older_share if len(recent) else 1.0
        num_older = int(np.count_nonzero(equal_parts(size, rng) < share))
        older, _ = self._all.draw(num_older, rng)
        places = (equal_parts(size - num_older, rng) * len(recent)).astype(np.int64)
        # Rounding may turn the largest part into 1.
        slots = np.concatenate([older, recent[np.minimum(places, len(recent) - 1)]])
        is_recent = self._arrivals[slots] >= self._num_arrived - len(self._newest)
        times = share + is_recent * ((1.0 - share) * len(self) / max(1, len(recent)))
        return slots, (1.0 / times).astype(np.float32)

    def _recent(self) -> Int64Array:
        """Slots of the newest that are still in the draw, oldest first."""
        count = min(self._num_arrived, len(self._newest))
        numbers = np.arange(self._num_arrived - count, self._num_arrived)
        slots = self._newest[numbers % len(self._newest)]
        # A slot that was taken out, and may have come again as another transition, does not count.
        recent: Int64Array = slots[self._arrivals[slots] == numbers]
        return recent

    def check_valid(
        self, slots: Int64Array, priorities: Float32Array, values: Float32Array
    ) -> None:
        """Raises ValueError unless exactly `slots` are in the draw, each with its arrival."""
        self._all.check_valid(slots, priorities, values)
        if not np.array_equal(np.flatnonzero(self._arrivals >= 0), slots):
            raise ValueError("the arrivals are not those of the ready transitions")
