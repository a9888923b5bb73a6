"""What a soak found: a file of all readings, one object, and a table for people."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.reporting import describe_versions
from benchmarks.soak.ending import INTERRUPTED, MAX_SECONDS, Ending
from benchmarks.soak.judge import (
    MIN_PACE,
    RULES,
    Reading,
    Verdict,
    increase,
    judge,
    pace,
    total,
)
from benchmarks.timing import short
from networks.atomic_file import write_atomically
from records.machine import describe_hardware

STALE_TEST = (
    "tests/replay/test_shard.py::"
    "test_new_priorities_reach_their_transitions_and_stale_ones_are_counted"
)
"""Shows that a priority whose transition has been overwritten is never written: every slot has a
generation, and a priority of another one is dropped and counted."""

_NOT_IN_TABLE = (
    "own_memory",
    "replay_fill",
    "steps",
    "updates",
    "restarts",
    "snapshot_bytes",
    "checkpoints",
)


def build_report(
    readings: Sequence[Reading], ending: Ending, *, settings: Mapping[str, Any], load_before: float
) -> dict[str, Any]:
    """Everything that was found, in JSON's own types; `passed` says whether all of it is well.

    Args:
        readings: those after the warm-up.
        ending: how the run ended.
        settings: to measure it again.
        load_before: of the machine, when it began.
    """
    series = judge(readings)
    unread = sorted(set(RULES) - {name.split("/")[0] for name in series})
    restarts = total(readings, "restarts")
    checks = {
        "series": all(verdict.passed for verdict in series.values()) and not unread,
        # Those before the warm-up ended are among them; what could not be read is not well.
        "restarts": restarts == 0,
        "pace": pace(readings) >= MIN_PACE,
        **{f"end_{name}": passed for name, passed in ending.judge().items()},
    }
    return {
        "benchmark": "soak",
        "passed": all(checks.values()),
        "checks": checks,
        "grew": [name for name, verdict in series.items() if not verdict.passed],
        # Ways of asking that no longer work must not look like nothing that grew.
        "unread": unread,
        "readings": len(readings),
        "judged_seconds": short(readings[-1]["seconds"] - readings[0]["seconds"]),
        "steps": int(increase(readings, "steps")),
        "steps_per_second": short(_per_second(readings, "steps")),
        "pace": short(pace(readings)),
        "restarts": None if restarts is None else int(restarts),
        "stale_priorities": {
            "dropped": int(increase(readings, "stale_priorities")),
            "never_written": STALE_TEST,
        },
        "series": {name: _row(verdict) for name, verdict in series.items()},
        "end": {**asdict(ending), "seconds": short(ending.seconds)},
        "settings": dict(settings),
        "versions": describe_versions(),
        "hardware": describe_hardware(),
        "load_before": short(load_before),
    }


def write_series(path: Path, readings: Sequence[Reading]) -> None:
    """Every reading of the soak as a line of a table, warm-up and all."""
    names = sorted({name for reading in readings for name in reading} - {"seconds"})
    text = io.StringIO()
    writer = csv.DictWriter(text, ["seconds", *names], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: short(value) for name, value in r.items()} for r in readings)
    write_atomically(path, text.getvalue().encode())


def format_report(report: Mapping[str, Any]) -> str:
    """For people: what grew and what was left, one line each."""
    settings, end = report["settings"], report["end"]
    head = f"{'series':<24} {'first':>12} {'last':>12} {'per hour':>12} {'allowed':>12}"
    rows = [
        _format_row(name, row)
        for name, row in report["series"].items()
        if name.split("/")[0] not in _NOT_IN_TABLE
    ]
    left = [
        f"{name}: {', '.join(end[name])}"
        for name in end
        if isinstance(end[name], list) and end[name]
    ]
    stale = report["stale_priorities"]["dropped"]
    failed = [name for name, passed in report["checks"].items() if not passed]
    wrong = [*report["grew"], *report["unread"], *failed]
    return "\n".join(
        [
            f"on {report['hardware']}, load {report['load_before']:g}",
            f"{report['readings']} readings over {report['judged_seconds']:.0f} s, after a warm-up "
            f"of {settings['warm_up_s']:.0f} s (replay full and saved, then a tenth of the soak)",
            "",
            head,
            *rows,
            "",
            f"{report['steps']:,} steps, {report['steps_per_second']:,.0f} a second; last fifth "
            f"over first {report['pace']:.2f} (at least {MIN_PACE}); {report['restarts']} restarts",
            f"stale priorities: {stale:,} dropped (that none is written: {STALE_TEST})",
            f"Ctrl-C: status {end['status']} ({INTERRUPTED} wanted) after {end['seconds']:.1f} s "
            f"(at most {MAX_SECONDS:.0f})",
            *(left or ["left behind: no process, socket, shared memory or temporary file"]),
            f"FAILED: {', '.join(wrong)}" if wrong else "passed",
        ]
    )


def _row(verdict: Verdict) -> dict[str, Any]:
    return {
        name: short(value) if isinstance(value, float) else value
        for name, value in asdict(verdict).items()
    }


def _format_row(name: str, row: Mapping[str, Any]) -> str:
    in_mib = name.split("/")[0] in _BYTES
    allowed = "-" if row["allowed"] is None else _amount(row["allowed"], in_mib)
    mark = "" if row["passed"] else "   GREW"
    figures = [_amount(row[key], in_mib) for key in ("first", "last", "per_hour")]
    return f"{name:<24} {' '.join(f'{figure:>12}' for figure in figures)} {allowed:>12}{mark}"


_BYTES = (
    "memory",
    "redis_memory",
    "redis_used_memory",
    "object_store",
    "run_bytes",
    "temporary_bytes",
)


def _amount(value: float, in_mib: bool) -> str:
    return f"{value / 2**20:,.2f} MiB" if in_mib else f"{value:,.4g}"


def _per_second(readings: Sequence[Reading], name: str) -> float:
    seconds = readings[-1]["seconds"] - readings[0]["seconds"]
    return increase(readings, name) / seconds if seconds > 0 else 0.0
