"""Where the units of a study lie, and what is known of each.

    DIR/ARM/GAME/SEED/       the unit's run, an ordinary run folder
    DIR/ARM/GAME/SEED.json   what it was started with and how it ended
    DIR/ARM/GAME/SEED.log    what the command printed, all attempts
    DIR/ARM/GAME/SEED.lock   held by whoever carries the unit

The lock is inherited by the unit's process: it is free again when both launcher and unit are gone,
however they ended, and no earlier.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from networks.atomic_file import write_atomically
from records.locking import try_lock
from records.run_dir import RunDir
from studies.study import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitRecord:
    """How a unit was started and how it ended."""

    fingerprint: str
    options: list[str]
    # Exit status of the newest attempt that came to an end; None before that.
    status: int | None = None
    # Seconds of all attempts that came to an end.
    wall_s: float = 0.0
    # Time of day of the newest end, in seconds since 1970.
    ended: float = 0.0

    @property
    def is_done(self) -> bool:
        """Whether the command has reached its end."""
        return self.status == 0


@dataclass(frozen=True, slots=True)
class UnitFiles:
    """The files of one unit."""

    unit: Unit
    run: Path

    @classmethod
    def of(cls, unit: Unit, study_dir: Path) -> UnitFiles:
        """The files of a unit of the study in a folder; nothing is made."""
        return cls(unit, study_dir / unit.arm / unit.game / str(unit.seed))

    @property
    def log(self) -> Path:
        """What the command printed."""
        return self.run.with_name(f"{self.run.name}.log")

    @property
    def _record(self) -> Path:
        return self.run.with_name(f"{self.run.name}.json")

    def read(self) -> UnitRecord | None:
        """Read the unit's record; None if it was never begun; ValueError if the file is damaged."""
        try:
            return UnitRecord(**json.loads(self._record.read_text()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError):
            raise ValueError(
                f"{self._record} is damaged; remove it to begin the unit again from its run"
            ) from None

    def write(self, record: UnitRecord) -> None:
        """Remember, whole or not at all."""
        write_atomically(self._record, json.dumps(asdict(record), indent=1).encode())

    def try_lock(self) -> TextIO | None:
        """An open file that holds the unit's lock; None while somebody else has it."""
        self.run.parent.mkdir(parents=True, exist_ok=True)
        return try_lock(self.run.with_name(f"{self.run.name}.lock"))

    def arguments(self) -> list[str]:
        """Words for the command: a fresh run, or the one that was cut off before.

        A run that died before its folder was complete leaves nothing to resume; it goes.
        """
        try:
            RunDir.open_existing(self.run)
        except ValueError:
            if self.run.exists():
                shutil.rmtree(self.run)
            own = ["--seed", str(self.unit.seed), "--run-dir", str(self.run)]
            # The study has one report for all of its units.
            return [*self.unit.options, *own, "--report-at-end", "False"]
        return ["--resume", str(self.run)]

    def played_steps(self) -> int:
        """Steps that the unit's metrics tell of so far.

        Experts have a file for each game, populations one for each member.
        """
        members = sorted(self.run.glob("members/*/metrics.jsonl"))
        return sum(_last_steps(path) for path in members or metrics_files(self.run))


def metrics_files(run: Path) -> list[Path]:
    """The metrics of a run: one file, or one for each game where games are trained in turn."""
    if (own := run / "metrics.jsonl").is_file():
        return [own]
    return sorted(run.glob("*/metrics.jsonl"))


def _last_steps(path: Path) -> int:
    """Newest count of steps in a file of metrics, from its last few kilobytes."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 16)))
        lines = file.read().splitlines()
    for line in reversed(lines):
        try:
            return int(json.loads(line)["steps"])
        except (ValueError, TypeError, KeyError):
            continue  # A line that is being written, or cut by the seek, or without steps.
    return 0


def check_unchanged(units: Sequence[Unit], study_dir: Path) -> None:
    """Refuse a study that differs from the one whose units lie in the folder.

    More arms, seeds or games are welcome: they are further units.
    """
    for unit in units:
        record = UnitFiles.of(unit, study_dir).read()
        if record is not None and record.fingerprint != unit.fingerprint():
            raise ValueError(
                f"the study has changed since {unit.name} ran in {study_dir}: it had "
                f"{' '.join(record.options) or 'no options'}, now "
                f"{' '.join(unit.options) or 'no options'} (or the preset's text is another); take "
                "the change back or choose another --out"
            )
