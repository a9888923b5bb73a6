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
from benchmarks.soak.judge import RULES, Growth, Reading, increase, judge, pace, per_second
from benchmarks.timing import short
from networks.atomic_file import write_atomically
from records.machine import describe_hardware
from views.columns import table_lines

# Steps per second of the last fifth over the first that say that the run has not got stuck. No
# more than that, since other programs on the machine may take most of it away.
MIN_PACE = 0.2
_IN_BYTES = ("memory", "redis_memory", "redis_used_memory", "object_store", "run_bytes",
             "temporary_bytes")  # fmt: skip
_NOT_IN_TABLE = ("replay_fill", "steps", "updates", "restarts", "snapshot_bytes", "checkpoints")


def build_report(
    readings: Sequence[Reading], ending: Ending, *, settings: Mapping[str, Any], load_before: float
) -> dict[str, Any]:
    """Everything that was found, in JSON's own types; `passed` says whether all of it is well."""
    series = judge(readings)
    # Ways of asking that no longer work must not look like nothing that grew.
    unread = sorted(set(RULES) - {name.split("/")[0] for name in series})
    restarts = next((r["restarts"] for r in reversed(readings) if "restarts" in r), None)
    checks = {
        "series": all(growth.passed for growth in series.values()) and not unread,
        # Those before the warm-up ended are among them; what could not be read is not well.
        "restarts": restarts == 0,
        "pace": pace(readings) >= MIN_PACE,
        **{f"end_{name}": passed for name, passed in ending.judge().items()},
    }
    return {
        "benchmark": "soak",
        "passed": all(checks.values()),
        "checks": checks,
        "grew": [name for name, growth in series.items() if not growth.passed],
        "unread": unread,
        "readings": len(readings),
        "judged_seconds": short(readings[-1]["seconds"] - readings[0]["seconds"]),
        "steps": int(increase(readings, "steps")),
        "steps_per_second": short(per_second(readings, "steps")),
        "pace": short(pace(readings)),
        "restarts": None if restarts is None else int(restarts),
        "stale_priorities": int(increase(readings, "stale_priorities")),
        "series": {name: as_row(growth) for name, growth in series.items()},
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
    end = report["end"]
    left = [f"{k}: {', '.join(v)}" for k, v in end.items() if isinstance(v, list) and v]
    failed = [name for name, passed in report["checks"].items() if not passed]
    wrong = [*report["grew"], *report["unread"], *failed]
    return "\n".join(
        [
            f"on {report['hardware']}, load {report['load_before']:g}",
            f"{report['readings']} readings over {report['judged_seconds']:.0f} s, after a warm-up "
            f"of {report['settings']['warm_up_s']:.0f} s (replay full and saved, then a tenth of "
            "the soak)",
            "",
            format_series(report["series"]),
            "",
            f"{report['steps']:,} steps, {report['steps_per_second']:,.0f} a second; last "
            f"fifth over first {report['pace']:.2f} (at least {MIN_PACE}); "
            f"{report['restarts']} restarts",
            f"{report['stale_priorities']:,} stale priorities dropped",
            f"Ctrl-C: status {end['status']} ({INTERRUPTED} wanted) after {end['seconds']:.1f} s "
            f"(at most {MAX_SECONDS:.0f})",
            *(left or ["left behind: no process, shared memory or temporary file"]),
            f"FAILED: {', '.join(wrong)}" if wrong else "passed",
        ]
    )


def as_row(growth: Growth) -> dict[str, Any]:
    """One series for the line of JSON."""
    return {
        name: short(value) if isinstance(value, float) else value
        for name, value in asdict(growth).items()
    }


def format_series(series: Mapping[str, Mapping[str, Any]]) -> str:
    """One line for each series: where it began and ended, its slope, and what is allowed."""
    shown = {name: row for name, row in series.items() if name.split("/")[0] not in _NOT_IN_TABLE}
    headings = ["series", "first", "last", "per hour", "allowed", ""]
    return "\n".join(table_lines(headings, [_cells(name, row) for name, row in shown.items()]))


def _cells(name: str, row: Mapping[str, Any]) -> list[str]:
    in_mib = name.split("/")[0] in _IN_BYTES
    values = [row[key] for key in ("first", "last", "per_hour", "allowed")]
    cells = ["-" if value is None else _amount(value, in_mib) for value in values]
    return [name, *cells, "" if row["passed"] else "GREW"]


def _amount(value: float, in_mib: bool) -> str:
    return f"{value / 2**20:,.2f} MiB" if in_mib else f"{value:,.4g}"
