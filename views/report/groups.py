"""Which runs belong together: those that differ in nothing but their seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from records.run_record import RunRecord

_NOT_LEARNING = ("seed", "report_period_s", "checkpoint", "run_dir", "preset", "resume", "device")
"""Settings that do not change what is learned."""
_SHOWN = 3
"""Settings that a label names."""


@dataclass(frozen=True, slots=True)
class RunGroup:
    """Runs of the same settings."""

    label: str
    runs: tuple[RunRecord, ...]

    def scores(self, game: str) -> list[float]:
        """Mean score of the last test, of every run that has one."""
        means = [run.student(game).mean for run in self.runs if game in run.games]
        return [mean for mean in means if mean is not None]

    @property
    def games(self) -> tuple[str, ...]:
        """Of all its runs; the settings say that they are the same."""
        return self.runs[0].games

    @property
    def repeated_seeds(self) -> list[int]:
        """Seeds that several runs share: they are no independent samples."""
        seeds = [run.seed for run in self.runs if run.seed is not None]
        return sorted({seed for seed in seeds if seeds.count(seed) > 1})


def group_runs(records: Sequence[RunRecord]) -> list[RunGroup]:
    """Groups in the order in which their first runs are given; a run that is given twice is one."""
    unique = {record.path: record for record in records}
    flat = {path: _flatten(record.config) for path, record in unique.items()}
    groups: dict[tuple[tuple[str, str], ...], list[RunRecord]] = {}
    for path, record in unique.items():
        groups.setdefault(tuple(sorted(flat[path].items())), []).append(record)
    settings = [dict(key) for key in groups]
    return [
        RunGroup(_label(own, settings, runs), tuple(runs))
        for own, runs in zip(settings, groups.values(), strict=True)
    ]


def _label(
    own: Mapping[str, str], settings: Sequence[Mapping[str, str]], runs: Sequence[RunRecord]
) -> str:
    """The settings in which the group differs from another one; names of runs where none do."""
    if len(settings) == 1:
        preset = runs[0].meta.get("preset")
        return runs[0].name if len(runs) == 1 or not isinstance(preset, str) else preset
    names = sorted(
        name
        for name in {name for other in settings for name in other}
        if len({other.get(name) for other in settings}) > 1
    )
    shown = [f"{name} {own.get(name, 'not set')}" for name in names[:_SHOWN]]
    more = [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return ", ".join([*shown, *more])


def _flatten(node: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in node.items():
        name = f"{prefix}{key}"
        if name in _NOT_LEARNING:
            continue
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{name}.")
        else:
            flat[name] = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return flat
