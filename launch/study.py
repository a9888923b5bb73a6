#!/usr/bin/env python
"""Compare settings: arms x seeds of an ordinary command, with one report.

    python launch/study.py studies/samplers.yaml --dry-run        what it would run and cost
    python launch/study.py studies/samplers.yaml --jobs 2         two runs side by side
    python launch/study.py studies/samplers.yaml                  the same again: what is left
    python launch/study.py my_study.yaml --out runs/mine
    python launch/study.py samplers --address http://127.0.0.1:8265 --jobs 8    on a Ray cluster

A study that was cut off goes on where it was; several launchers may share one. Status 0 only if
every run reached its end. docs/studies.md says what a study's file holds.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from launch.options.command_line import parse_options
from launch.options.exit_status import run_command
from views.words import duration

if TYPE_CHECKING:
    from studies.runner import Runner
    from studies.study import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOptions:
    """Compare settings: arms x seeds of an ordinary command, with one report."""

    study: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STUDY")]
    """A study's file, or the name of one that comes with the package."""
    out: str = ""
    """Folder of the study; default runs/studies/NAME. One that has runs of it is gone on with."""
    jobs: int = 1
    """Runs side by side."""
    address: str = ""
    """Dashboard of a Ray cluster (http://127.0.0.1:8265), to make the runs its jobs; without it,
    they are processes of this machine."""
    dry_run: bool = False
    """Only say which runs there are, with their options, and what they will cost."""

    def __post_init__(self) -> None:
        """Refuse out-of-range values."""
        if self.jobs < 1:
            raise ValueError(f"jobs must be at least 1, got {self.jobs}")


def main(argv: Sequence[str], *, prog: str = "study.py") -> None:
    """Run what is left of a study and write its report."""
    options = parse_options(StudyOptions, argv, prog=prog, doc=__doc__)
    # Not above: what reads a study reads its runs as well, and help is shown without.
    from studies.records import UnitFiles, check_unchanged
    from studies.report import write_report
    from studies.results import read_results
    from studies.runner import Runner, job_command, launch_command
    from studies.study import read_study

    name, study = read_study(options.study)
    study_dir = Path(options.out or Path("runs") / "studies" / name).absolute()
    units = study.units()
    # Reads the options of every unit, so that a mistake in the last arm is not found at night.
    runner = Runner(
        units,
        study_dir,
        jobs=options.jobs,
        pace_steps_per_s=study.pace_steps_per_s,
        command_line=job_command(options.address, study_dir) if options.address else launch_command,
        tell=_tell,
    )
    check_unchanged(units, study_dir)
    if options.dry_run:
        _describe(study, study_dir, runner)
        return
    if options.address:
        from engines.on_ray.jobs import connect

        connect(options.address)  # Refused now rather than by every unit.
    _make_folder(study_dir)
    failed = runner.run()
    page = write_report(read_results(study, study_dir), study_dir, name=options.study)
    _tell(f"report: {page}")
    if failed:
        logs = ", ".join(str(UnitFiles.of(unit, study_dir).log) for unit in failed)
        raise SystemExit(f"{len(failed)} of {len(units)} units failed: {logs}")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot make the study's folder {path}: {error.strerror}") from None
    if not os.access(path, os.W_OK):
        raise ValueError(f"cannot write into the study's folder {path}")


def _describe(study: Study, study_dir: Path, runner: Runner) -> None:
    """Show every arm and game with its options, and what is left to do."""
    from studies.records import UnitFiles

    units = study.units()
    for first in units[: len(units) // len(study.seeds)]:
        records = [
            UnitFiles.of(replace(first, seed=seed), study_dir).read() for seed in study.seeds
        ]
        done = [record is not None and record.is_done for record in records]
        seeds = " ".join(map(str, study.seeds))
        _tell(
            f"{first.arm}/{first.game}: seeds {seeds} ({sum(done)} done), {first.num_steps():,} "
            f"steps each\n    {first.command}.py {' '.join(first.options)}"
        )
    pace, seconds = runner.pace(), runner.seconds_left()
    cost = (
        "no pace is known yet: give pace_steps_per_s in the study, or look again after a unit"
        if pace is None or seconds is None
        else f"at {pace:,.0f} steps/s a unit, about {duration(seconds)} (hours, minutes, seconds)"
    )
    total = sum(unit.num_steps() for unit in units)
    _tell(f"{len(units)} units, {total:,} steps in all; what is left: {cost}")


def _tell(line: str) -> None:
    # Flushed, so that a study in the background can be followed in its log.
    print(line, flush=True)


if __name__ == "__main__":
    run_command(main)
