"""What replay is measured by, the aims, and the table that shows both."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.timing import WINDOW_S, Rounds, Window, measure_rounds, medians, ratios, short
from views.columns import table_lines

# Does an operation by its name for about so many seconds.
Operate = Callable[[str, float], Window]


def measure_operations(operate: Operate, *, seconds: float) -> Rounds:
    """Windows of copying, sampling, updating and inserting in turn, for about so long."""
    names = ("copy", "sample", "update", "insert")
    return measure_rounds({n: partial(operate, n, WINDOW_S) for n in names}, seconds=seconds)


def figures_of(
    rounds: Rounds,
    *,
    bytes_per_sample: float,
    resident_bytes: float | None = None,
    counted_bytes: float | None = None,
) -> dict[str, Any]:
    """What one replay came to: medians over the rounds, of rates and of what memcpy would do.

    The latter is formed within each round, whose windows lie next to each other: how fast memory is
    changes from minute to minute on a machine that others use, too.

    Args:
        rounds: seconds of an insert, a sample, an update, and a byte of `copy`.
        bytes_per_sample: size of a transition that is given out.
        resident_bytes: memory that storing one more transition has added to the process; it misses
            what was written to when the tables were made.
        counted_bytes: what the tables say of themselves; it misses what the allocator wastes.
    """
    rates = {name: short(1 / seconds) for name, seconds in medians(rounds).items()}
    shares = [ratio * bytes_per_sample for ratio in ratios(rounds, "copy", "sample")]
    lower, _, upper = statistics.quantiles(shares, n=4)
    known = [size for size in (resident_bytes, counted_bytes) if size is not None]
    return {
        "inserts_per_second": rates["insert"],
        "samples_per_second": rates["sample"],
        "updates_per_second": rates["update"],
        "bytes_per_transition": short(max(known)) if known else None,
        "counted_bytes_per_transition": counted_bytes and short(counted_bytes),
        "resident_bytes_per_transition": resident_bytes and short(resident_bytes),
        "bytes_per_sample": short(bytes_per_sample),
        "memcpy_ratio": short(statistics.median(shares)),
        # Half of the rounds lie between them.
        "memcpy_ratio_quartiles": [short(lower), short(upper)],
        "memcpy_bytes_per_second": rates["copy"],
        "rounds": len(shares),
    }


@dataclass(frozen=True, slots=True)
class Target:
    """An aim; never changed to fit a result."""

    # Place of the figure in the report, with dots.
    path: str
    # >= or <=.
    comparison: str
    value: float


# For one shard with its writer and reader on two cores, and for two shards alone on these; 512
# features, batches of 512.
TARGETS = (
    Target("inserts_per_second", ">=", 50_000),
    Target("samples_per_second", ">=", 50_000),
    Target("memcpy_ratio", ">=", 0.4),
    Target("updates_per_second", ">=", 500_000),
    Target("bytes_per_transition", "<=", 8_400),
    Target("compressed.bytes_per_transition", "<=", 2_500),
    Target("compressed.samples_per_second", ">=", 25_000),
    Target("two_shards_ratio", ">=", 1.8),
)


def judge(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Each target beside what was measured; a figure that is missing has not passed."""
    judged = {}
    compare = {">=": operator.ge, "<=": operator.le}
    for target in TARGETS:
        measured = _look_up(report, target.path)
        judged[target.path] = {
            "target": f"{target.comparison} {target.value:g}",
            "measured": measured,
            "passed": measured is not None and compare[target.comparison](measured, target.value),
        }
    return judged


def _look_up(report: Mapping[str, Any], path: str) -> float | None:
    node: Any = report
    for name in path.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node if isinstance(node, int | float) else None


_COLUMNS = (
    ("inserts_per_second", "inserts/s", "{:,.0f}"),
    ("samples_per_second", "samples/s", "{:,.0f}"),
    ("updates_per_second", "updates/s", "{:,.0f}"),
    ("memcpy_ratio", "of memcpy", "{:.3f}"),
    ("bytes_per_transition", "bytes", "{:,.0f}"),
)


def format_table(rows: Sequence[tuple[str, Mapping[str, Any] | None]]) -> str:
    """One line for each replay; a dash where nothing was measured."""
    lines = []
    for name, figures in rows:
        values = [((figures or {}).get(key), form) for key, _, form in _COLUMNS]
        lines.append([name, *("-" if v is None else form.format(v) for v, form in values)])
    return "\n".join(table_lines(["", *(title for _, title, _ in _COLUMNS)], lines))


def format_targets(judged: Mapping[str, Mapping[str, Any]]) -> str:
    """One line for each target."""
    rows = []
    for path, row in judged.items():
        measured = "not measured" if row["measured"] is None else f"{row['measured']:,.5g}"
        rows.append([path, row["target"], measured, "passed" if row["passed"] else "MISSED"])
    return "\n".join(table_lines(["aim", "target", "measured", ""], rows))
