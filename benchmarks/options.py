"""Options of the benchmarks; imports nothing that is slow."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from annotated_types import Ge, Interval

_DEFAULT_SECONDS = {
    "actor": 20.0,
    "replay": 10.0,
    "replay-soak": 600.0,
    "learner": 20.0,
    "system": 35.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """Measure one part of the system against what it could do at best on this machine."""

    benchmark: Annotated[
        Literal["actor", "replay", "replay-soak", "learner", "system"], tyro.conf.Positional
    ]
    """Part of the system to measure."""
    preset: str = ""
    """Where the settings come from: a preset's name or a YAML file; without, the quickstart, and
    for replay what benchmarks/results/README.md says."""
    seconds: Annotated[float, Ge(0)] = 0.0
    """Length of the measurement, without preparations; 0: long enough for a steady figure."""
    games: tuple[str, ...] = ()
    """Games; without, the preset's."""
    num_envs: Annotated[int, Ge(0)] = 0
    """Environments of one actor; 0: the preset's."""
    batch_size: Annotated[int, Ge(0)] = 0
    """Transitions in a batch; 0: the preset's."""
    torso: str = ""
    """The student's; without, the preset's."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the learner computes."""
    peers_python: tuple[str, ...] = ()
    """Python interpreters of the environments that other replay libraries are installed in, to be
    measured after ours (only `replay`)."""

    def __post_init__(self) -> None:
        """Refuse interpreters that are none."""
        for path in self.peers_python:
            if not os.access(path, os.X_OK):
                raise ValueError(f"--peers-python {path} is not a program that can be run")

    @property
    def measuring_s(self) -> float:
        """Seconds to measure for."""
        return self.seconds or _DEFAULT_SECONDS[self.benchmark]

    @property
    def preset_name(self) -> str:
        """The preset that other options override."""
        return self.preset or "quickstart"

    @property
    def is_of_replay(self) -> bool:
        """Whether only replay is measured, and no expert has to play well."""
        return self.benchmark in ("replay", "replay-soak")


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakOptions:
    """Watch a run for growth; the run's own options follow after `--`."""

    output: Path
    """Folder of the results; new or empty."""
    minutes: Annotated[float, Interval(gt=0, le=1e6)] = 30.0
    """Length of the soak, from the run's first update."""
    period_s: Annotated[float, Interval(gt=0, le=1e6)] = 5.0
    """Seconds between two readings; less where a short soak would have less than sixty."""

    @property
    def seconds(self) -> float:
        """Length of the soak."""
        return 60.0 * self.minutes

    @property
    def interval_s(self) -> float:
        """Seconds between two readings."""
        return min(self.period_s, self.seconds / 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentationOptions:
    """Measure what it costs a run to be watched."""

    rounds: Annotated[int, Ge(2)] = 20
    """Number of pairs."""
    phase_s: Annotated[float, Ge(1)] = 12.0
    """Seconds of each half of a pair."""
    preset: str = "quickstart"
    """Where the settings come from: a preset's name or a YAML file."""
    games: tuple[str, ...] = ()
    """Games; without, the preset's."""
