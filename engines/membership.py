"""What a run does as a member of a population: it is scored, compares itself, and changes.

    play a slice -> checkpoint -> test -> record -> wait -> decide -> change -> checkpoint -> record

A checkpoint says which comparisons the run has been through and which incarnation it is, so it
commits each change: a run that dies before it decides once more, and one that dies after it goes on
as what it has become. Whoever copies another member reads the checkpoint that was scored.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engines.slices import Position
from learner.checkpoint import load_checkpoint
from recipes.evaluation import StudentTest
from recipes.evolution import Decision, Standing, decide
from recipes.loading import dump_config
from recipes.population_plan import PopulationPlan
from recipes.recipe import Recipe
from recipes.tuning import get_settings, spell, with_settings
from records.population import (
    Boundary,
    Incarnation,
    MemberRecord,
    Parent,
    PopulationFiles,
    replace_by_link,
)
from records.run_dir import RunDir

# A donor that goes on may replace its checkpoint while it is copied.
_COPY_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How a member's learner goes on."""

    decision: Decision
    recipe: Recipe
    # Learner's state of the donor; None to keep its own.
    state: dict[str, Any] | None
    # What was copied; None if nothing was.
    copied: Boundary | None


class Membership:
    """One run's place in a population."""

    def __init__(
        self,
        plan: PopulationPlan,
        files: PopulationFiles,
        number: int,
        *,
        recipe: Recipe,
        run_dir: RunDir,
        state: dict[str, Any] | None,
        note: Callable[[str], None],
    ) -> None:
        """Take the place up, or go on in it from a checkpoint's `state`.

        Args:
            plan: of the population.
            files: of the population.
            number: of the member, from 0.
            recipe: what is trained, with the settings that the member has now.
            run_dir: of the member's run.
            state: of the checkpoint that the run goes on from; None for a new run.
            note: takes one line for each comparison.
        """
        self._plan = plan
        self._files = files
        self._number = number
        self._recipe = recipe
        self._run_dir = run_dir
        self._note = note
        self._num_decided = int(state["member"]["decided"]) if state else 0
        self._record = self._go_on(state)
        files.write_record(self._record)
        updates = int(state["learner"]["num_updates"]) if state else 0
        self._slice_end = self._next_end(updates)
        self._phase: Literal["playing", "testing", "scored"] = "playing"
        if len(self._record.boundaries) > self._num_decided:
            self._phase = "scored"
        self._tested_updates = updates
        self._tests: dict[str, StudentTest] = {}
        self._has_changed = False

    def _go_on(self, state: dict[str, Any] | None) -> MemberRecord:
        """The member's record as far as the checkpoint has come."""
        now = (
            Incarnation.model_validate_json(state["member"]["incarnation"])
            if state
            else Incarnation(
                number=0,
                parent=None,
                steps=0,
                updates=0,
                settings=get_settings(self._recipe.config, self._plan.tuned),
            )
        )
        before = self._files.read_record(self._number) if state else None
        if before is None:
            return MemberRecord(member=self._number, incarnations=(now,))
        updates = int(state["learner"]["num_updates"]) if state else 0
        return MemberRecord(
            member=self._number,
            incarnations=(*(i for i in before.incarnations if i.number < now.number), now),
            boundaries=tuple(b for b in before.boundaries if b.updates <= updates),
        )

    def _next_end(self, updates: int) -> int:
        length = self._plan.slice_updates
        return (updates // length + 1) * length

    @property
    def slice_end(self) -> int | None:
        """Updates after which the run is to be compared; None while it is."""
        return self._slice_end if self._phase == "playing" else None

    @property
    def position(self) -> Position:
        """How many comparisons the run has been scored for, and how many it has been through."""
        return len(self._record.boundaries), self._num_decided

    @property
    def incarnation(self) -> Incarnation:
        """What the run is now."""
        return self._record.incarnations[-1]

    def is_due(self, updates: int) -> bool:
        """Whether the run has come to the end of a slice; its own end is none."""
        is_over = updates >= self._recipe.config.num_updates
        return self._phase == "playing" and updates >= self._slice_end and not is_over

    def begin_test(self, checkpoint: Path, *, updates: int) -> None:
        """Keep the checkpoint of the weights that are about to be tested."""
        replace_by_link(checkpoint, self._next_boundary)
        self._phase = "testing"
        self._tested_updates = updates
        self._tests = {}

    @property
    def _next_boundary(self) -> Path:
        """Where a checkpoint waits until it is scored, while others may still copy the last one."""
        path = self._files.boundary(self._number)
        return path.with_name(f".{path.name}.tested")

    def take(self, test: StudentTest) -> None:
        """Take the result of a test, which may be one of others that the run makes."""
        if self._phase != "testing" or test.updates != self._tested_updates:
            return
        self._tests[test.game] = test
        if len(self._tests) == len(self._recipe.games):
            self._keep_score()

    def _keep_score(self) -> None:
        means = {game: self._tests[game].result.mean for game in self._recipe.games}
        one = next(iter(self._tests.values()))
        boundary = Boundary(
            number=len(self._record.boundaries) + 1,
            steps=one.steps,
            updates=one.updates,
            incarnation=self.incarnation.number,
            score=self._plan.score(means),
            means=means,
            episodes=len(one.result.returns),
            digest=digest_of(self._next_boundary),
        )
        self._next_boundary.replace(self._files.boundary(self._number))
        self._write(boundaries=(*self._record.boundaries, boundary))
        self._phase = "scored"

    def _write(self, **change: Any) -> None:
        self._record = self._record.model_copy(update=change)
        self._files.write_record(self._record)

    @property
    def is_scored(self) -> bool:
        """Whether the run can be compared now."""
        return self._phase == "scored"

    def decide(self) -> Change | None:
        """Compare the run with another member; None if it goes on as it is."""
        own = self._record.boundaries[-1]
        records = self._files.read_records() | {self._number: self._record}
        standings = {
            member: _standing(record) for member, record in records.items() if record.boundaries
        }
        decision = decide(
            self._plan, self._number, standings, comparison=own.number, steps=own.steps
        )
        state, copied = None, None
        if decision.donor is not None:
            try:
                copied, state = self._copy(decision.donor)
            except (OSError, ValueError) as error:
                # It keeps what it has, as if it had lost to nobody.
                reason = " ".join(str(error).split())
                self._note(f"member {decision.donor} could not be copied: {reason}")
                decision = Decision(donor=None, settings=self.incarnation.settings)
        if decision.donor is None and decision.settings == self.incarnation.settings:
            return None
        config = with_settings(self._recipe.config, decision.settings)
        return Change(decision=decision, recipe=Recipe(config), state=state, copied=copied)

    def _copy(self, donor: int) -> tuple[Boundary, dict[str, Any]]:
        """The donor's newest comparison, and its learner's state as it was scored.

        Copied first, as the donor may go on meanwhile; ValueError if what was copied is not what
        the donor's record tells of.
        """
        own = self._files.boundary(self._number).with_suffix(".copy")
        try:
            for _ in range(_COPY_TRIES):
                shutil.copyfile(self._files.boundary(donor), own)
                record = self._files.read_record(donor)
                boundary = record.boundaries[-1] if record and record.boundaries else None
                if boundary is not None and digest_of(own) == boundary.digest:
                    state: dict[str, Any] = load_checkpoint(own)["learner"]
                    return boundary, state
            raise ValueError("its checkpoint is not the one that was scored")
        finally:
            own.unlink(missing_ok=True)

    def adopt(self, change: Change | None, *, steps: int, updates: int) -> None:
        """Become what the learner has been changed to; a checkpoint is to be written next.

        Args:
            change: from `decide`.
            steps: of the run, as far as is known of this session.
            updates: of the learner, likewise.
        """
        own = self._record.boundaries[-1]
        # A run that goes on from a checkpoint is changed before its first look.
        steps, updates = max(steps, own.steps), max(updates, own.updates)
        self._num_decided = own.number
        self._phase = "playing"
        self._slice_end = self._next_end(updates)
        self._has_changed = change is not None
        if change is None:
            return
        donor, copied = change.decision.donor, change.copied or own
        now = Incarnation(
            number=self.incarnation.number + 1,
            parent=Parent(
                member=self._number if donor is None else donor,
                incarnation=copied.incarnation,
                updates=copied.updates,
            ),
            steps=steps,
            updates=updates,
            settings=dict(change.decision.settings),
        )
        self._recipe = change.recipe
        self._record = self._record.model_copy(
            update={"incarnations": (*self._record.incarnations, now)}
        )

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: tensors, numbers and strings only."""
        return {"decided": self._num_decided, "incarnation": self.incarnation.model_dump_json()}

    def commit(self) -> str:
        """Write what the checkpoint holds for others to read; the change as a sentence."""
        self._files.write_record(self._record)
        self._run_dir.write_config(dump_config(self._recipe.config))
        own, now = self._record.boundaries[-1], self.incarnation
        text = f"score {own.score:.3g} after {own.steps:,} steps"
        if self._has_changed and now.parent is not None:
            if now.parent.member != self._number:
                text += f"; goes on from member {now.parent.member}"
            values = (f"{spell(name)} {value:.3g}" for name, value in now.settings.items())
            text += f"; {', '.join(values)}"
        self._note(text)
        return text


def _standing(record: MemberRecord) -> Standing:
    """A member as it was scored, which may be an incarnation before the newest."""
    newest = record.boundaries[-1]
    scored = next(i for i in record.incarnations if i.number == newest.incarnation)
    return Standing(score=newest.score, settings=scored.settings)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
