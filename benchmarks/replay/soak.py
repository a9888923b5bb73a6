"""Replay at full rate for a long time: memory, descriptors and threads stay, and so does the pace.

One shard process with full tables; one process inserts, another takes batches and sends their
priorities back, both as fast as they can, for as long as asked. What the shard's process holds is
read every few seconds. The pace is that of inserting and of sampling, as a share of memcpy's
measured in the same few seconds while the rest goes on, so that a machine that has become slower
is not taken for a replay that has.

The first minute is for settling. From then on

    memory       never above the first reading by 2 percent or more, and no line through the
                 readings that would rise as much by the end
    descriptors  never more than 4 above the first reading; threads alike
    pace         the median of the last minute at least 0.9 of that of the second minute

A run of less than four minutes takes a quarter of its time for a minute. The command ends with
status 1 if one of these fails.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from benchmarks.processes.table import ProcessReading
from benchmarks.replay.figures import format_targets
from benchmarks.replay.play import record_play
from benchmarks.replay.process import (
    CALL_TIMEOUT_S,
    ReplayProcesses,
    replay_processes,
)
from benchmarks.replay.replay import replay_settings
from benchmarks.setup import BenchSetup, without_pacing
from benchmarks.timing import Result, short
from engines.on_ray.session import ray_session

MAX_GROWTH = 0.02
MAX_MORE = 4
"""Descriptors or threads: Ray opens a few when a caller comes or goes."""
MIN_PACE = 0.9

_INTERVAL_S = 4.0
"""Between two readings, unless the whole soak has less than forty of them."""
_COPY_SHARE = 0.15
"""Of an interval: copying memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakPoint:
    """A few seconds of the soak."""

    seconds: float
    """Since the tables were full."""
    inserts_per_second: float
    samples_per_second: float
    """Each with its priority sent back."""
    memcpy_bytes_per_second: float
    reading: ProcessReading


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakVerdict:
    """The figures that pass or fail."""

    memory_growth: float
    """Highest reading after settling over the first, less 1."""
    memory_trend: float
    """Rise of the line through these readings, over the first."""
    more_descriptors: int
    more_threads: int
    insert_pace: float
    """Last minute over second minute, of the share of memcpy."""
    sample_pace: float

    def judge(self) -> dict[str, dict[str, Any]]:
        """Each figure, its limit, and whether it keeps to it."""
        growth, more, pace = f"< {MAX_GROWTH:g}", f"<= {MAX_MORE}", f">= {MIN_PACE:g}"
        return {
            name: {"target": target, "measured": short(measured), "passed": passed}
            for name, target, measured, passed in (
                ("memory_growth", growth, self.memory_growth, self.memory_growth < MAX_GROWTH),
                ("memory_trend", growth, self.memory_trend, self.memory_trend < MAX_GROWTH),
                (
                    "more_descriptors",
                    more,
                    self.more_descriptors,
                    self.more_descriptors <= MAX_MORE,
                ),
                ("more_threads", more, self.more_threads, self.more_threads <= MAX_MORE),
                ("insert_pace", pace, self.insert_pace, self.insert_pace >= MIN_PACE),
                ("sample_pace", pace, self.sample_pace, self.sample_pace >= MIN_PACE),
            )
        }


def run(setup: BenchSetup) -> Result:
    """Soak and judge."""
    recipe = without_pacing(setup.recipe)
    seconds = setup.options.measuring_s
    capacity = recipe.config.replay.capacity_per_game * len(recipe.games)
    recorded = record_play(recipe)
    with (
        ray_session(recipe),
        replay_processes(recipe, recorded) as processes,
    ):
        processes.fill(int(1.1 * capacity))
        _, bytes_per_sample = processes.describe_batch()
        # What is allocated at the first use belongs to no point.
        processes.sample(0.0)
        processes.copy(0.0)
        points = soak(processes, seconds=seconds)
        processes.check_valid()
    verdict = judge_soak(points, seconds=seconds)
    judged = verdict.judge()
    to_bytes = bytes_per_sample / statistics.median(p.memcpy_bytes_per_second for p in points)
    samples_per_second = statistics.median(p.samples_per_second for p in points)
    return Result(
        measured=samples_per_second,
        bound=1 / to_bytes,
        unit="samples/s",
        target=None,
        parts={
            "inserts_per_second": statistics.median(p.inserts_per_second for p in points),
            "samples_per_second": samples_per_second,
            "resident_bytes": points[-1].reading.resident_bytes,
            "shared_bytes": points[-1].reading.shared_bytes,
            "descriptors": points[-1].reading.num_descriptors,
            "threads": points[-1].reading.num_threads,
        },
        rounds=len(points),
        further={
            "passed": all(row["passed"] for row in judged.values()),
            "targets": judged,
            "points": [_row(point) for point in points],
        },
        table=f"{_format_points(points)}\n\n{format_targets(judged)}\n",
        settings={"seconds": seconds, **replay_settings(recipe, recorded)},
        failed=not all(row["passed"] for row in judged.values()),
    )


def soak(
    processes: ReplayProcesses,
    *,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> list[SoakPoint]:
    """Insert, sample, update and copy at once, until the time is over."""
    interval = min(_INTERVAL_S, seconds / 40)
    start = clock()
    points = []
    while clock() - start < seconds:
        inserting = [writer.insert.remote(interval) for writer in processes.writers]
        learning = processes.reader.learn.remote((1 - _COPY_SHARE) * interval)
        copying = processes.reader.copy.remote(_COPY_SHARE * interval)
        inserted = ray.get(inserting, timeout=CALL_TIMEOUT_S)
        learned, copied = ray.get([learning, copying], timeout=CALL_TIMEOUT_S)
        points.append(
            SoakPoint(
                seconds=clock() - start,
                inserts_per_second=sum(w.units / w.seconds for w in inserted),
                samples_per_second=learned.units / learned.seconds,
                memcpy_bytes_per_second=copied.units / copied.seconds,
                reading=processes.read_shards()[0],
            )
        )
    return points


def judge_soak(points: Sequence[SoakPoint], *, seconds: float) -> SoakVerdict:
    """Compare everything after the first minute with its beginning.

    ValueError if a minute has no points.
    """
    minute = min(60.0, seconds / 4)
    settled = [point for point in points if point.seconds >= minute]
    second = [point for point in settled if point.seconds < 2 * minute]
    last = [point for point in settled if point.seconds >= points[-1].seconds - minute]
    if not second or not last:
        raise ValueError("the soak is too short for its readings; use --seconds 20 or more")
    memory = [float(point.reading.resident_bytes) for point in settled]
    first = settled[0].reading
    return SoakVerdict(
        memory_growth=max(memory) / memory[0] - 1,
        memory_trend=_rise([point.seconds for point in settled], memory) / memory[0],
        more_descriptors=_most(settled, "num_descriptors") - first.num_descriptors,
        more_threads=_most(settled, "num_threads") - first.num_threads,
        insert_pace=_pace(last, "inserts_per_second") / _pace(second, "inserts_per_second"),
        sample_pace=_pace(last, "samples_per_second") / _pace(second, "samples_per_second"),
    )


def _most(points: Sequence[SoakPoint], name: str) -> int:
    return max(int(getattr(point.reading, name)) for point in points)


def _pace(points: Sequence[SoakPoint], name: str) -> float:
    return float(statistics.median(getattr(p, name) / p.memcpy_bytes_per_second for p in points))


def _rise(seconds: Sequence[float], values: Sequence[float]) -> float:
    """How far the line of least squares rises from the first moment to the last."""
    if len(values) < 2:
        return 0.0
    slope = np.polynomial.Polynomial.fit(seconds, values, 1).convert().coef[-1]
    return float(slope) * (seconds[-1] - seconds[0])


def _row(point: SoakPoint) -> dict[str, float]:
    return {
        "seconds": short(point.seconds),
        "inserts_per_second": short(point.inserts_per_second),
        "samples_per_second": short(point.samples_per_second),
        "memcpy_bytes_per_second": short(point.memcpy_bytes_per_second),
        "resident_bytes": point.reading.resident_bytes,
        "shared_bytes": point.reading.shared_bytes,
        "descriptors": point.reading.num_descriptors,
        "threads": point.reading.num_threads,
    }


_MAX_LINES = 24


def _format_points(points: Sequence[SoakPoint]) -> str:
    """A line for every few seconds, or for fewer of them if they are many."""
    head = "       s  inserts/s  samples/s  memcpy GB/s  memory MiB  shared MiB  files  threads"
    step = -(-len(points) // _MAX_LINES)
    return "\n".join(
        [
            head,
            *(
                f"{p.seconds:8.0f}  {p.inserts_per_second:9,.0f}  {p.samples_per_second:9,.0f}  "
                f"{p.memcpy_bytes_per_second / 1e9:11.2f}  "
                f"{p.reading.resident_bytes / 2**20:10,.1f}  "
                f"{p.reading.shared_bytes / 2**20:10,.1f}  "
                f"{p.reading.num_descriptors:5}  {p.reading.num_threads:7}"
                for p in points[::step]
            ),
        ]
    )
