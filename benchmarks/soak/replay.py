"""Replay at full rate for a long time: memory, descriptors and threads stay, and so does the pace.

One shard process with full tables; one process inserts, another takes batches and sends their
priorities back, both as fast as they can, for as long as asked. What the shard's process holds is
read every few seconds and judged by the rules of benchmarks/soak/judge.py after a minute (a quarter
of a soak of less than four minutes) for settling. The pace is that of inserting and of sampling, as
a share of memcpy's measured in the same few seconds while the rest goes on, so that a machine that
has become slower is not taken for a replay that has; its median over the last fifth must be at
least 0.9 of that over the first. The command ends with status 1 if something grew or slowed down.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.replay.play import record_play
from benchmarks.replay.process import ReplayProcesses, replay_processes, wait_for
from benchmarks.replay.replay import replay_settings
from benchmarks.setup import BenchSetup, without_pacing
from benchmarks.soak.judge import MIN_READINGS, Reading, judge
from benchmarks.soak.reporting import as_row, format_series
from benchmarks.timing import Result, short
from engines.on_ray.session import ray_session

MIN_PACE = 0.9
_PACES = ("insert_pace", "sample_pace")
# Seconds between two readings, unless the whole soak has less than forty of them.
_INTERVAL_S = 4.0
# Share of an interval spent copying memory.
_COPY_SHARE = 0.15


def run(setup: BenchSetup) -> Result:
    """Soak and judge."""
    recipe = without_pacing(setup.recipe)
    seconds = setup.options.measuring_s
    capacity = recipe.config.replay.capacity_per_game * len(recipe.games)
    recorded = record_play(recipe)
    with ray_session(recipe), replay_processes(recipe, recorded) as processes:
        processes.fill(int(1.1 * capacity))
        bytes_per_sample = processes.bytes_per_sample()
        # What is allocated at the first use belongs to no reading.
        processes.window("sample", 0.0)
        processes.window("copy", 0.0)
        readings = _soak(processes, seconds=seconds)
        processes.check_valid()
    return build_result(
        readings,
        seconds=seconds,
        bytes_per_sample=bytes_per_sample,
        settings={"seconds": seconds, **replay_settings(recipe, recorded)},
    )


def _soak(processes: ReplayProcesses, *, seconds: float) -> list[Reading]:
    """Insert, sample, update and copy at once, until the time is over."""
    interval = min(_INTERVAL_S, seconds / 40)
    start = time.monotonic()
    readings: list[Reading] = []
    while time.monotonic() - start < seconds:
        inserting = [writer.insert.remote(interval) for writer in processes.writers]
        learning = processes.reader.learn.remote((1 - _COPY_SHARE) * interval)
        copying = processes.reader.copy.remote(_COPY_SHARE * interval)
        *inserts, learned, copied = (
            window.units / window.seconds for window in wait_for([*inserting, learning, copying])
        )
        shard = processes.read_shards()[0]
        readings.append(
            {
                "seconds": time.monotonic() - start,
                "inserts_per_second": sum(inserts),
                "samples_per_second": learned,
                "memcpy_bytes_per_second": copied,
                "insert_pace": sum(inserts) / copied,
                "sample_pace": learned / copied,
                "memory/shard": shard.resident_bytes,
                "descriptors/shard": shard.num_descriptors,
                "threads/shard": shard.num_threads,
            }
        )
    return readings


def build_result(
    readings: Sequence[Reading], *, seconds: float, bytes_per_sample: float, settings: Any
) -> Result:
    """Judge what came after the first minute; ValueError if that are hardly any readings."""
    settled = [r for r in readings if r["seconds"] >= min(60.0, seconds / 4)]
    if len(settled) < MIN_READINGS:
        raise ValueError("the soak is too short for its readings; use --seconds 20 or more")
    series = judge(settled)
    paces = {name: series[name].last / series[name].first for name in _PACES}
    checks = {
        **{name: growth.passed for name, growth in series.items() if growth.allowed is not None},
        **{name: pace >= MIN_PACE for name, pace in paces.items()},
    }
    rows = {name: as_row(growth) for name, growth in series.items()}
    failed = [name for name, passed in checks.items() if not passed]
    medians = {
        name: statistics.median(r[name] for r in readings)
        for name in ("inserts_per_second", "samples_per_second", "memcpy_bytes_per_second")
    }
    return Result(
        measured=medians["samples_per_second"],
        bound=medians["memcpy_bytes_per_second"] / bytes_per_sample,
        unit="samples/s",
        target=None,
        parts={**medians, **paces},
        rounds=len(readings),
        further={
            "passed": not failed,
            "checks": checks,
            "series": rows,
            "points": [{name: short(value) for name, value in r.items()} for r in readings],
        },
        table=f"{format_series(rows)}\n\n"
        + (f"FAILED: {', '.join(failed)}" if failed else "passed")
        + "\n",
        settings=settings,
    )
