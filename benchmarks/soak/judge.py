"""Whether something grew: the rules of both soaks, and nothing else. Pure functions of readings.

After the warm-up a series is looked at twice: the median of its last fifth against that of its
first, and the rise of a line through all of it (Theil and Sen: the median of the slopes between all
pairs, which single leaps do not bend). It has grown if either is above what is allowed for it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# One moment: `seconds`, and a number for everything that could be read.
Reading = Mapping[str, float]

# Fewer readings after the warm-up say nothing.
MIN_READINGS = 10
# Share of its capacity, in every game, at which replay counts as full.
FULL = 0.99
# Share of the whole soak that still belongs to the warm-up once replay is full.
SETTLING_SHARE = 0.1
# Share of the soak up to which the first snapshot and the first checkpoint are waited for.
LATEST_SAVE = 0.5
# Share of the readings in which a judged series has a number.
_MIN_READ = 0.8
# Most points of a line; of more, every second or third is taken.
_MAX_POINTS = 1_500

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Rule:
    """How much more of something there may be at the end: the greater of the two."""

    relative: float
    absolute: float

    def allowed(self, first: float) -> float:
        """Growth allowed for a series that begins with `first`."""
        return max(self.relative * first, self.absolute)


# Rules by the part of a series' name before the slash; series without one are only reported.
RULES: Mapping[str, Rule] = {
    "memory": Rule(0.02, 16 * _MIB),
    "descriptors": Rule(0.0, 4),
    "threads": Rule(0.0, 4),
    "processes": Rule(0.0, 1),
    "redis_keys": Rule(0.0, 1),
    "redis_memory": Rule(0.02, _MIB),
    "redis_clients": Rule(0.0, 2),
    "object_store": Rule(0.02, 8 * _MIB),
    "run_files": Rule(0.0, 8),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """What became of one series after the warm-up."""

    # Median of the first fifth.
    first: float
    # Median of the last fifth.
    last: float
    # Slope of the line.
    per_hour: float
    # Rise of the line from the first reading to the last.
    rise: float
    # Most that it may have grown; None for a series that is only reported.
    allowed: float | None
    passed: bool


def warm_up_end(readings: Sequence[Reading], *, seconds: float) -> float:
    """The moment from which on everything is judged.

    Replay is full then, its first snapshot and the run's first checkpoint have been written (which
    takes memory that is kept for the next), and a tenth of the soak has passed since.

    Args:
        readings: all of the soak, with `replay_fill`, the least full game's share of its capacity,
            `snapshot_bytes` and `checkpoints`.
        seconds: length of the whole soak.

    Raises:
        ValueError: replay was never full, or hardly a reading came after that.
    """
    advice = "use more --minutes, or a smaller --replay.capacity-per-game"
    full = _first(readings, "replay_fill", FULL)
    if full is None:
        fill = max((r.get("replay_fill", 0.0) for r in readings), default=0.0)
        raise ValueError(
            f"replay was only {fill:.0%} full at the end, so nothing had settled; {advice}"
        )
    saved = [_first(readings, name, 1) for name in ("snapshot_bytes", "checkpoints")]
    # One that comes late belongs to what is judged: a run without snapshots settles, too.
    waited_for = [when for when in saved if when is not None and when <= LATEST_SAVE * seconds]
    settled = max([full, *waited_for])
    end = settled + SETTLING_SHARE * seconds
    count = sum(r["seconds"] >= end for r in readings)
    if count < MIN_READINGS:
        raise ValueError(
            f"only {count} readings after the warm-up, {MIN_READINGS} are needed: replay was full "
            f"after {full:.0f} s, saved after {settled:.0f} s; {advice}"
        )
    return end


def _first(readings: Sequence[Reading], name: str, least: float) -> float | None:
    """When a value was first at least so much."""
    return next((r["seconds"] for r in readings if r.get(name, 0.0) >= least), None)


def judge(readings: Sequence[Reading]) -> dict[str, Growth]:
    """All series of readings that come after the warm-up."""
    names = sorted({name for reading in readings for name in reading} - {"seconds"})
    return {name: _judge_series(name, readings) for name in names}


def pace(readings: Sequence[Reading]) -> float:
    """Steps per second in the last fifth over those in the first; 0 when nothing was played."""
    fifth = max(2, len(readings) // 5)
    first, last = per_second(readings[:fifth], "steps"), per_second(readings[-fifth:], "steps")
    return last / first if first > 0 else 0.0


def increase(readings: Sequence[Reading], name: str) -> float:
    """Last value of a counter less its first one."""
    values = [reading[name] for reading in readings if name in reading]
    return values[-1] - values[0] if values else 0.0


def per_second(readings: Sequence[Reading], name: str) -> float:
    """Mean rate of a counter over the readings that have it."""
    known = [reading["seconds"] for reading in readings if name in reading]
    seconds = known[-1] - known[0] if known else 0.0
    return increase(readings, name) / seconds if seconds > 0 else 0.0


def theil_sen(seconds: Sequence[float], values: Sequence[float]) -> float:
    """Median of the slopes between all pairs of points."""
    step = -(-len(values) // _MAX_POINTS)
    x: NDArray[np.float64] = np.asarray(seconds[::step], np.float64)
    y: NDArray[np.float64] = np.asarray(values[::step], np.float64)
    i, j = np.triu_indices(len(x), k=1)
    apart = x[j] > x[i]
    if not apart.any():
        return 0.0
    return float(np.median((y[j] - y[i])[apart] / (x[j] - x[i])[apart]))


def _judge_series(name: str, readings: Sequence[Reading]) -> Growth:
    known = [(r["seconds"], r[name]) for r in readings if name in r]
    seconds, values = [s for s, _ in known], [v for _, v in known]
    fifth = max(1, len(values) // 5)
    first, last = statistics.median(values[:fifth]), statistics.median(values[-fifth:])
    slope = theil_sen(seconds, values)
    rise = slope * (seconds[-1] - seconds[0])
    rule = RULES.get(name.split("/")[0])
    allowed = rule.allowed(first) if rule else None
    is_read = len(values) >= _MIN_READ * len(readings)
    return Growth(
        first=first,
        last=last,
        per_hour=slope * 3600,
        rise=rise,
        allowed=allowed,
        passed=allowed is None or (is_read and max(last - first, rise) <= allowed),
    )
