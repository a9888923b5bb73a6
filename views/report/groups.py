"""Which runs belong together: those that learn by the same settings, whatever their seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from recipes.loading import flatten
from records.run_record import RunRecord

# Settings, or groups of them, that change nothing of what is learned. A setting that is not
# named counts as one that does: taking two settings for one would be the worse mistake.
_NOT_LEARNING = frozenset(
    {
        # Where a run is, and how it is watched and kept.
        "run_dir", "preset", "resume", "checkpoint", "report_period_s", "report_at_end",
        "dashboard", "metrics",
        # What it runs on, and how transitions lie and travel there.
        "device", "cluster_wait_s", "redis_url", "replay.spread", "replay.compression",
        "replay.num_batch_slots", "replay.snapshot_period_s",
        # How much is tested, which changes how exactly the student is known, not what it knows.
        "evaluation.check_teachers", "evaluation.num_envs", "evaluation.num_episodes",
        "evaluation.period_episodes", "evaluation.period_steps",
        "seed",
    }
)  # fmt: skip

_MAX_LABEL = 40


@dataclass(frozen=True, slots=True)
class RunGroup:
    """Runs that learn by the same settings."""

    # Made of the runs' names.
    label: str
    runs: tuple[RunRecord, ...]
    # The settings in which it differs from the other groups; empty where there is no other.
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def differences(self) -> str:
        """The same in words."""
        return ", ".join(f"{name} {value}" for name, value in self.settings.items())

    def scores(self, game: str) -> list[float]:
        """Mean score of the last test, for every run that has one."""
        means = [run.student(game).mean for run in self.runs if game in run.games]
        return [mean for mean in means if mean is not None]

    @property
    def games(self) -> tuple[str, ...]:
        """The games of its runs, which are a setting and so the same in all of them."""
        return self.runs[0].games

    @property
    def repeated_seeds(self) -> list[int]:
        """Seeds that several runs share: such runs are no independent samples."""
        seeds = [run.seed for run in self.runs if run.seed is not None]
        return sorted({seed for seed in seeds if seeds.count(seed) > 1})


def group_runs(records: Sequence[RunRecord]) -> list[RunGroup]:
    """Groups in the order in which their first runs are given; a run that is given twice is one."""
    unique = {record.path: record for record in records}
    groups: dict[tuple[tuple[str, str], ...], list[RunRecord]] = {}
    for record in unique.values():
        settings = tuple(sorted(_learning_settings(record.config).items()))
        groups.setdefault(settings, []).append(record)
    differing = _differing([dict(key) for key in groups])
    labels = _labels(list(groups.values()))
    return [
        RunGroup(label, tuple(runs), {n: dict(own).get(n, "not set") for n in differing})
        for label, own, runs in zip(labels, groups, groups.values(), strict=True)
    ]


def _labels(groups: Sequence[Sequence[RunRecord]]) -> list[str]:
    """A short name for each group, no two alike."""
    labels = [_label(runs) for runs in groups]
    return [
        label if labels.count(label) == 1 else f"{label} ({index + 1})"
        for index, label in enumerate(labels)
    ]


def _label(runs: Sequence[RunRecord]) -> str:
    """The name of a single run, or what the names of several begin with, else all of them."""
    names = [run.name for run in runs]
    if len(names) == 1:
        return names[0]
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    common = "".join(letters[0] for letters in alike).rstrip("0123456789-_. ")
    joined = ", ".join(names)
    if common:
        return common
    return joined if len(joined) <= _MAX_LABEL else f"{names[0]} and {len(names) - 1} more"


def _differing(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Names of the settings that are not the same in all groups."""
    names = {name for own in settings for name in own}
    return sorted(name for name in names if len({own.get(name) for own in settings}) > 1)


def _learning_settings(config: Mapping[str, Any]) -> dict[str, str]:
    """Names in full and values of all settings that change what is learned."""
    return {
        name: " ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in flatten(config).items()
        if _NOT_LEARNING.isdisjoint((name, name.partition(".")[0]))
    }
