"""Quantiles that cost the same however large a table is: of recent draws, of spread slots."""

from __future__ import annotations

from collections import deque

import numpy as np

from replay.types import Float32Array, Int64Array

# The quantiles that are reported of a table's priorities and of its draws' ages.
QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)

# Numbers that a quantile is taken of: enough for the tenth and the ninetieth percentile.
_NUM_RECENT = 4_096


class RecentValues:
    """The last 4,096 of a stream of numbers; adding takes no longer than keeping a reference."""

    def __init__(self) -> None:
        """None yet."""
        self._parts: deque[Int64Array] = deque()
        self._num_held = 0

    def add(self, values: Int64Array) -> None:
        """Keep the last of these numbers and of those before; the array is not to be changed."""
        if not len(values):
            return
        self._parts.append(values)
        self._num_held += len(values)
        while self._num_held - len(self._parts[0]) >= _NUM_RECENT:
            self._num_held -= len(self._parts.popleft())

    def held(self) -> Int64Array:
        """The numbers, oldest first."""
        return np.concatenate([np.zeros(0, np.int64), *self._parts])[-_NUM_RECENT:]


def spread_slots(num_slots: int) -> Int64Array:
    """At most 4,096 slots, evenly spread over the first `num_slots`."""
    if num_slots <= _NUM_RECENT:
        return np.arange(num_slots)
    return np.arange(_NUM_RECENT) * num_slots // _NUM_RECENT


def quantiles_of(values: Float32Array | Int64Array) -> tuple[float, ...]:
    """The QUANTILES of some numbers; empty of none."""
    if not len(values):
        return ()
    return tuple(np.quantile(values.astype(np.float64), QUANTILES).tolist())
