"""What replay is measured by, the aims, and the table that shows both."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.timing import Rounds, medians, ratios, short


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayFigures:
    """One replay, measured: medians over the rounds, of rates and of what is held against memcpy.

    The latter is formed within each round, whose windows lie next to each other: how fast memory is
    changes from minute to minute on a machine that others use, too.
    """

    # Transitions stored.
    inserts_per_second: float
    # Transitions given out in batches.
    samples_per_second: float
    # Priorities set.
    updates_per_second: float
    # Speed of memcpy in the process that takes the batches, in the same rounds.
    memcpy_bytes_per_second: float
    # Transitions given out in the time that memcpy takes for a byte, of every round.
    sampled_per_copied_byte: tuple[float, ...]
    # Size of a transition that is given out.
    bytes_per_sample: float
    # What storing one more has added to the process's memory; None if it was not measured. It
    # misses what was written to when the tables were made.
    resident_bytes_per_transition: float | None = None
    # What the tables say of themselves. It misses what the allocator wastes.
    counted_bytes_per_transition: float | None = None
    rounds: int

    @property
    def memcpy_ratio(self) -> float:
        """Bytes of the batches per second over those that memcpy copies."""
        return statistics.median(self._memcpy_ratios)

    @property
    def memcpy_ratio_quartiles(self) -> tuple[float, float]:
        """Quartiles over the rounds: half of the ratios lie between them."""
        lower, _, upper = statistics.quantiles(self._memcpy_ratios, n=4)
        return lower, upper

    @property
    def _memcpy_ratios(self) -> list[float]:
        return [rate * self.bytes_per_sample for rate in self.sampled_per_copied_byte]

    @property
    def bytes_per_transition(self) -> float | None:
        """The greater of the two, each of which misses something."""
        counted, resident = self.counted_bytes_per_transition, self.resident_bytes_per_transition
        return None if counted is None or resident is None else max(counted, resident)

    def report(self) -> dict[str, Any]:
        """The figures as they stand in the line of JSON."""
        figures = {
            "inserts_per_second": self.inserts_per_second,
            "samples_per_second": self.samples_per_second,
            "updates_per_second": self.updates_per_second,
            "bytes_per_transition": self.bytes_per_transition,
            "counted_bytes_per_transition": self.counted_bytes_per_transition,
            "resident_bytes_per_transition": self.resident_bytes_per_transition,
            "bytes_per_sample": self.bytes_per_sample,
            "memcpy_ratio": self.memcpy_ratio,
            "memcpy_bytes_per_second": self.memcpy_bytes_per_second,
        }
        return {
            **{name: None if value is None else short(value) for name, value in figures.items()},
            "memcpy_ratio_quartiles": [short(ratio) for ratio in self.memcpy_ratio_quartiles],
        }


def rates_of(rounds: Rounds) -> dict[str, Any]:
    """The fields of ReplayFigures that rounds of insert, sample, update and copy give."""
    seconds = medians(rounds)
    return {
        "inserts_per_second": 1 / seconds["insert"],
        "samples_per_second": 1 / seconds["sample"],
        "updates_per_second": 1 / seconds["update"],
        "memcpy_bytes_per_second": 1 / seconds["copy"],
        "sampled_per_copied_byte": tuple(ratios(rounds, "copy", "sample")),
        "rounds": len(rounds["copy"]),
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
    head = ["", *(title for _, title, _ in _COLUMNS)]
    lines = [head]
    for name, figures in rows:
        values = [(figures or {}).get(key) for key, _, _ in _COLUMNS]
        cells = [
            "-" if value is None else form.format(value)
            for value, (_, _, form) in zip(values, _COLUMNS, strict=True)
        ]
        lines.append([name, *cells])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def format_targets(judged: Mapping[str, Mapping[str, Any]]) -> str:
    """One line for each target."""
    lines = []
    for path, row in judged.items():
        measured = "not measured" if row["measured"] is None else f"{row['measured']:,.5g}"
        verdict = "passed" if row["passed"] else "MISSED"
        lines.append(f"{path:<34} {row['target']:>10}  {measured:>12}  {verdict}")
    return "\n".join(lines)
