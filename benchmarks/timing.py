"""Timing on a machine that does other things as well: many short windows, in turn.

All parts of a benchmark are measured in rounds, a short window of each after the other, so that
whatever else the machine does hits them alike. The median over the rounds is robust against the
windows that were hit by chance.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# Length of one window, where a benchmark has no reason for another.
WINDOW_S = 0.2
# Rounds measured whatever time they take; a median of less says nothing.
MIN_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Window:
    """One short measurement."""

    seconds: float
    # Work done: steps, samples, updates.
    units: float

    @property
    def seconds_per_unit(self) -> float:
        """Infinite if nothing was done."""
        return self.seconds / self.units if self.units else math.inf


# Does some work and says how long it took; what it prepares besides is not in the time.
Part = Callable[[], Window]

# Seconds per unit of every window of every part.
Rounds = dict[str, list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a benchmark found."""

    measured: float
    # What the parts alone would allow.
    bound: float
    unit: str
    # The ratio to aim at; None where none is set.
    target: float | None
    # What the bound is made of, and what else explains the difference.
    parts: Mapping[str, float]
    # Windows behind each part.
    rounds: int
    # Those that only this benchmark has.
    settings: Mapping[str, Any] = field(default_factory=dict)
    # Keys of the report that only this benchmark has.
    further: Mapping[str, Any] = field(default_factory=dict)
    # For people, above the last line; without, the parts one below the other.
    table: str = ""

    def __post_init__(self) -> None:
        """Refuse figures that are not positive and finite."""
        for name in ("measured", "bound"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(
                    f"the benchmark came to {name} = {value}; measure longer with --seconds"
                )

    @property
    def ratio(self) -> float:
        """Measured / bound."""
        return self.measured / self.bound


def timed(
    work: Callable[[], object], units: float, *, clock: Callable[[], float] = time.perf_counter
) -> Window:
    """Time one call of `work`, which does this many units."""
    start = clock()
    work()
    return Window(clock() - start, units)


def repeat_for(
    work: Callable[[], float],
    seconds: float,
    *,
    finish: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Window:
    """Call `work`, which returns its units, over and over; what `finish` waits for counts, too."""
    start = clock()
    units, calls = 0.0, 0
    while calls < MIN_ROUNDS or clock() - start < seconds:
        units += work()
        calls += 1
    finish()
    return Window(clock() - start, units)


def measure_rounds(
    parts: Mapping[str, Part], *, seconds: float, clock: Callable[[], float] = time.monotonic
) -> Rounds:
    """A window of every part in turn, over and over, for about this long.

    One more round goes before, to warm up, and is thrown away. The parts always come in the order
    given: one may use what another has left.
    """
    for part in parts.values():
        part()
    rounds: Rounds = {name: [] for name in parts}
    deadline = clock() + seconds
    count = 0
    while count < MIN_ROUNDS or clock() < deadline:
        for name, part in parts.items():
            rounds[name].append(part().seconds_per_unit)
        count += 1
    return rounds


def medians(rounds: Rounds) -> dict[str, float]:
    """Median seconds per unit of each part."""
    return {name: statistics.median(windows) for name, windows in rounds.items()}


def ratios(rounds: Rounds, part: str, other: str) -> list[float]:
    """Time of `part` over that of `other`, formed within every round.

    Its windows lie next to each other, and machines that others use change from minute to minute.
    """
    return [a / b for a, b in zip(rounds[part], rounds[other], strict=True)]


def short(value: float) -> float:
    """Round to five digits; more are noise."""
    return float(f"{value:.5g}")
