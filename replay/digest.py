"""What a table can tell cheaply about itself: counts, and quantiles of priorities and of ages."""

from __future__ import annotations

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
    """The last 4,096 of a stream of numbers."""

    def __init__(self) -> None:
        """None yet."""
        self._values = np.zeros(_NUM_RECENT, np.int64)
        self._num_added = 0

    def add(self, values: Int64Array) -> None:
        """Keep the last of these numbers and of those before."""
        values = values[-_NUM_RECENT:]
        first = self._num_added % _NUM_RECENT
        room = _NUM_RECENT - first
        self._values[first : first + len(values)] = values[:room]
        self._values[: max(0, len(values) - room)] = values[room:]
        self._num_added += len(values)

    def held(self) -> Int64Array:
        """The numbers, in no order."""
        return self._values[: self._num_added]


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
