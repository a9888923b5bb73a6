"""Marks settings that may change while a learner learns, beside their types. Imports nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tunable:
    """A positive number that a population may change from one update to the next.

    Changes are factors, so the bounds are where a search of some powers of ten makes sense; the
    lower one also keeps a setting from 0, which no factor leaves again.
    """

    low: float
    high: float
