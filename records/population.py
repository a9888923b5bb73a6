"""The records of a population.

In the folder RUN of its run:

    population.yaml             its settings
    members/K/                  the run of member K, an ordinary run folder
    members/K.json              what member K has been and scored: a MemberRecord
    members/K.boundary.pt       its checkpoint of the newest comparison, for others to copy
    population.json             the outcome: a PopulationSummary

Each file is replaced as a whole. An *incarnation* is a stretch of one member's life with the same
settings and no copy in between; each but the first has a parent. Steps count all games together.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from networks.atomic_file import write_atomically
from records.documents import Document, parse
from records.locking import try_lock
from records.run_record import Row, read_rows


class Ancestor(Document):
    """One incarnation in a line of them."""

    member: NonNegativeInt
    incarnation: NonNegativeInt


class Parent(Ancestor):
    """The incarnation that another one goes on from."""

    # Of the parent, when it was gone on from.
    updates: NonNegativeInt


class Incarnation(Document):
    """A stretch of a member's life."""

    number: NonNegativeInt
    # None for the first one. Of the same member where it has only changed its settings.
    parent: Parent | None
    # Where it began.
    steps: NonNegativeInt
    updates: NonNegativeInt
    # Values of the tuned settings, by names such as `learner.learning_rate`.
    settings: dict[str, float]


class Boundary(Document):
    """A comparison of a member with the others: what it had scored."""

    # From 1.
    number: NonNegativeInt
    steps: NonNegativeInt
    updates: NonNegativeInt
    incarnation: NonNegativeInt
    # On the population's scale.
    score: float
    # Mean returns, by game.
    means: dict[str, float]
    # Whole episodes of each game.
    episodes: NonNegativeInt
    # SHA-256 of the checkpoint that was scored.
    digest: str


class MemberRecord(Document):
    """What a member has been and scored, oldest first."""

    member: NonNegativeInt
    incarnations: tuple[Incarnation, ...] = Field(min_length=1)
    boundaries: tuple[Boundary, ...] = ()


class Ending(Document):
    """How a member ended."""

    # On the population's scale, of the last test; None for a member that was lost.
    score: float | None
    steps: NonNegativeInt
    # Why it was lost; empty if it was not.
    lost: str = ""


class PopulationSummary(Document):
    """All of population.json."""

    members: dict[str, Ending]
    normalize: str
    # Whose network is the run's student.
    student_of: NonNegativeInt
    # `best` or `median`: how it was picked.
    picked: str
    # Its score of the last test, by which it was picked, and of one more test by another seed,
    # which is not the better for having been picked.
    picked_score: float
    confirmed_score: float
    # Ancestors of the student, oldest first.
    ancestry: tuple[Ancestor, ...]
    # Steps of all members together.
    steps: NonNegativeInt
    wall_seconds: NonNegativeFloat
    tuned: tuple[str, ...] = Field(default=())


@dataclass(frozen=True, slots=True)
class PopulationFiles:
    """Paths of a population's files."""

    run: Path

    @property
    def settings(self) -> Path:
        """The population's settings, as YAML."""
        return self.run / "population.yaml"

    @property
    def summary(self) -> Path:
        """The outcome."""
        return self.run / "population.json"

    def member(self, number: int) -> Path:
        """The run folder of a member."""
        return self.run / "members" / str(number)

    def record(self, number: int) -> Path:
        """What a member has been and scored."""
        return self.run / "members" / f"{number}.json"

    def boundary(self, number: int) -> Path:
        """A member's checkpoint of its newest comparison."""
        return self.run / "members" / f"{number}.boundary.pt"

    def log(self, number: int) -> Path:
        """What a member has printed where it has processes of its own."""
        return self.run / "members" / f"{number}.log"

    def try_lock(self, number: int) -> TextIO | None:
        """The lock of who carries a member in a process of its own; None while somebody has it."""
        return try_lock(self.run / "members" / f"{number}.lock")

    @property
    def is_population(self) -> bool:
        """Whether the folder is a population's."""
        return self.settings.is_file()

    def read_record(self, number: int) -> MemberRecord | None:
        """A member's record; None if it has none yet; ValueError if it is damaged."""
        path = self.record(number)
        try:
            return parse(MemberRecord, path.read_bytes(), what=str(path))
        except FileNotFoundError:
            return None

    def write_record(self, record: MemberRecord) -> None:
        """Replace a member's record."""
        text = json.dumps(record.model_dump(mode="json"), indent=1) + "\n"
        write_atomically(self.record(record.member), text.encode())

    def read_records(self) -> dict[int, MemberRecord]:
        """Records of all members that have one; damaged ones are left out."""
        found = {}
        for path in (self.run / "members").glob("*.json"):
            try:
                record = parse(MemberRecord, path.read_bytes(), what=str(path))
            except (ValueError, OSError):
                continue
            found[record.member] = record
        return dict(sorted(found.items()))

    def read_summary(self) -> PopulationSummary | None:
        """The outcome; None for a population that has not ended."""
        try:
            return parse(PopulationSummary, self.summary.read_bytes(), what=str(self.summary))
        except FileNotFoundError:
            return None

    def write_summary(self, summary: PopulationSummary) -> None:
        """Replace the outcome."""
        text = json.dumps(summary.model_dump(mode="json"), indent=1) + "\n"
        write_atomically(self.summary, text.encode())


def replace_by_link(source: Path, target: Path) -> None:
    """Have `target` be the file that is `source` now, whatever becomes of `source` later.

    A copy where the file system has no hard links.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        temporary.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, temporary)
    temporary.replace(target)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of an ancestry: one incarnation, as long as the descendant was part of it."""

    incarnation: Incarnation
    member: int
    # The last of the member's updates that belongs to it; None for the member's end.
    end: int | None


def ancestry(records: Mapping[int, MemberRecord], member: int) -> list[Stretch]:
    """The line of ancestors of a member's newest incarnation, oldest first.

    It ends early at an ancestor whose record is missing, or that is named twice, and is
    empty if the member's own is missing.
    """
    line: list[Stretch] = []
    if member not in records:
        return line
    end: int | None
    number, end = records[member].incarnations[-1].number, None
    while member in records:
        own = [i for i in records[member].incarnations if i.number == number]
        if not own or any((s.member, s.incarnation.number) == (member, number) for s in line):
            break
        line.append(Stretch(own[0], member, end))
        if (parent := own[0].parent) is None:
            break
        member, number, end = parent.member, parent.incarnation, parent.updates
    return line[::-1]


def ancestral_rows(files: PopulationFiles, line: Sequence[Stretch]) -> Iterator[Row]:
    """Rows of metrics.jsonl along a line of ancestors, with one clock through all of them."""
    last_s, shift_s, member = 0.0, 0.0, None
    for stretch in line:
        for row in _read_stretch(files.member(stretch.member) / "metrics.jsonl", stretch):
            seconds = row.get("seconds", 0.0)
            if member not in (None, stretch.member):
                shift_s = last_s - seconds
            member, last_s = stretch.member, max(last_s, seconds + shift_s)
            yield row | {"seconds": last_s}


def _read_stretch(path: Path, stretch: Stretch) -> Iterator[Row]:
    begin = stretch.incarnation.updates
    for row in read_rows(path, []):
        updates = row.get("updates", 0.0)
        # The test at its beginning is of its parent, and that at its end of itself.
        is_after = updates > begin or stretch.incarnation.parent is None
        if is_after and (stretch.end is None or updates <= stretch.end):
            yield row
