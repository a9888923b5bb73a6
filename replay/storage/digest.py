"""What a table can tell cheaply about itself: counts, and quantiles of priorities and of ages."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from replay.types import Float32Array, Int64Array

QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)
"""The quantiles that a digest gives."""

_NUM_RECENT = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDigest:
    """One table at one moment. Quantiles are those of QUANTILES; empty where there are no data."""

    num_entries: int
    """Entries held."""
    num_ready: int
    """Transitions that can be drawn."""
    inserted: int
    """Transitions added since the table was made."""
    sampled: int
    """Transitions drawn."""
    overwritten_unsampled: int
    """Transitions overwritten before they were drawn."""
    stale_updates: int
    """Priority updates that came too late."""
    priority_quantiles: tuple[float, ...]
    """Of 4,096 slots evenly spread over the table, as far as they can be drawn; exact below."""
    sampled_age_quantiles: tuple[float, ...]
    """Of the last 4,096 draws: entries that the table had stored since the one that was drawn."""


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
