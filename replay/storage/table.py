"""One game's replay: a ring of transitions and a sampler over those that are ready.

Where batches hold sequences, for unrolls and for returns over many steps, a transition is drawn as
ever; the sequence is what follows it in its episode.

Shape letters:
    Q  sequences
    T  steps of each, at the most
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from replay.samplers import Sampler
from replay.storage.links import NO_SLOT, StreamLinks
from replay.storage.ring import TableSpec, TransitionRing
from replay.types import BoolArray, Chunk, Columns, Float32Array, Int32Array, Int64Array

# The quantiles that are reported of a table's priorities and of its draws' ages.
QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)

# Numbers that a quantile is taken of: enough for the tenth and the ninetieth percentile.
_NUM_RECENT = 4_096


class RecentValues:
    """The last 4,096 of a stream of numbers; adding takes no longer than keeping a reference."""

    def __init__(self) -> None:
        """None yet."""
        self._parts: deque[Int64Array] = deque()
        self._num_held = 0

    def add(self, values: Int64Array) -> None:
        """Keep the last of these numbers and of those before; the array is not to be changed."""
        if not len(values):
            return
        self._parts.append(values)
        self._num_held += len(values)
        while self._num_held - len(self._parts[0]) >= _NUM_RECENT:
            self._num_held -= len(self._parts.popleft())

    def held(self) -> Int64Array:
        """The numbers, oldest first."""
        return np.concatenate([np.zeros(0, np.int64), *self._parts])[-_NUM_RECENT:]


def spread_slots(num_slots: int) -> Int64Array:
    """At most 4,096 slots, evenly spread over the first `num_slots`."""
    if num_slots <= _NUM_RECENT:
        return np.arange(num_slots)
    return np.arange(_NUM_RECENT) * num_slots // _NUM_RECENT


def quantiles_of(values: Float32Array | Int64Array) -> tuple[float, ...]:
    """The QUANTILES of some numbers; empty of none."""
    if not len(values):
        return ()
    return tuple(np.quantile(values.astype(np.float64), QUANTILES).tolist())


@dataclass(slots=True)
class TableCounts:
    """What happened to one table since it was made."""

    # Transitions added.
    inserted: int = 0
    # Transitions drawn.
    sampled: int = 0
    # Transitions that were ready but overwritten (or a frame of theirs) before they were drawn.
    overwritten_unsampled: int = 0
    # Priority updates dropped because their transition could no longer be drawn.
    stale_priorities: int = 0
    # Transitions of its part of the batches that other games gave, because it was short of data.
    # Counted by whoever divides the batches.
    yielded: int = 0


# Generation in the keys of rows that only repeat a step.
NOBODYS = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceSlots:
    """Where the steps of drawn sequences lie."""

    # [Q, T] Column 0 is the transition that was drawn; a sequence that ended early repeats its
    # last step.
    slots: Int64Array
    # [Q] Steps of each sequence, at least 1; what lies behind them is repetition.
    num_steps: Int64Array
    # [Q] Entry after the last step, whose observation a return can bootstrap from; -1 if there is
    # none, because the game was over there, or it is not here.
    bootstrap_slots: Int64Array

    @property
    def is_step(self) -> BoolArray:
        """[Q, T] False for repetitions."""
        is_step: BoolArray = np.arange(self.slots.shape[1]) < self.num_steps[:, None]
        return is_step


def follow(links: StreamLinks, drawn: Int64Array, *, length: int) -> SequenceSlots:
    """Sequences of up to `length` steps from the drawn transitions [Q] on, which are ready.

    A sequence ends early with its episode, at the newest step that the ring has of it, and where a
    step was lost. A life lost does not end it: there its discount is 0, and the game goes on. Steps
    of two episodes or streams are never joined.
    """
    path = links.path(drawn, length).T
    # The last observation of a truncated episode is no step, but what follows the last one.
    is_step = links.is_transition[path[:, :-1]] & (path[:, :-1] != NO_SLOT)
    num_steps = is_step.sum(axis=1)
    rows = np.arange(len(drawn))
    last = path[rows, num_steps - 1]
    return SequenceSlots(
        slots=np.where(is_step, path[:, :-1], last[:, None]),
        num_steps=num_steps,
        bootstrap_slots=path[rows, num_steps],
    )


@dataclass(frozen=True, slots=True)
class Drawn:
    """Transitions [B] drawn from a table; the arrays are not to be changed."""

    slots: Int64Array
    # -1 for the rows behind a sequence's last step, which repeat it.
    generations: Int64Array
    # Entries that the table has stored since each of them.
    ages: Int64Array
    # 1 / (N * P).
    inverse_probabilities: Float32Array
    # The sequences that the rows are made of; None for single steps.
    sequences: SequenceSlots | None = None

    @property
    def num_steps(self) -> int:
        """Rows that are no repetitions."""
        return len(self.slots) if self.sequences is None else int(self.sequences.num_steps.sum())


class ReplayTable:
    """Adds chunks, and draws transitions as its sampler chooses.

    Only transitions that are ready are in the draw: those whose frames and successors are here.
    """

    def __init__(self, spec: TableSpec, *, sampler: Sampler, rng: np.random.Generator) -> None:
        """Make an empty table; the sampler is new, for slots 0..capacity-1, and nobody else's."""
        self.spec = spec
        self.ring = TransitionRing(spec)
        self.counts = TableCounts()
        self._sampler = sampler
        self._rng = rng
        self._is_ready = np.zeros(spec.capacity, np.bool_)
        self._times_sampled = np.zeros(spec.capacity, np.int32)
        self._sampled_ages = RecentValues()

    @property
    def num_ready(self) -> int:
        """Transitions that can be sampled now."""
        return len(self._sampler)

    def add(self, chunk: Chunk) -> None:
        """Store a chunk that fits (`ring.check_fits`), overwriting the oldest entries.

        ValueError if it cannot come next; the table is then left as it was.
        """
        self.ring.check_next(chunk)
        slots, broken = self.ring.claim(chunk.num_entries)
        self._retire(np.concatenate([slots, broken]))
        self.ring.write(slots, chunk)
        self._times_sampled[slots] = 0
        self.counts.inserted += chunk.num_transitions
        # They and steps before may have become ready now that these are written.
        self._admit(self.ring.links.predecessors(slots, self.spec.num_following))

    def _retire(self, slots: Int64Array) -> None:
        """Take slots out of the draw for good."""
        ready = np.unique(slots[self._is_ready[slots]])
        self.counts.overwritten_unsampled += int(np.count_nonzero(self._times_sampled[ready] == 0))
        self._is_ready[ready] = False
        self._sampler.retire(ready)

    def _admit(self, candidates: Int64Array) -> None:
        """Put those candidates into the draw that have become ready."""
        candidates = candidates[~self._is_ready[candidates]]
        ready = candidates[self.ring.ready(candidates)]
        self._is_ready[ready] = True
        self._sampler.admit(
            ready, self.ring["priorities"][ready], self.ring["teacher_values"][ready]
        )

    def sample(self, size: int) -> Drawn:
        """Draw transitions with replacement, one from each of `size` equal parts of the total.

        Where the spec asks for sequences, the size is a multiple of their length, and a transition
        is drawn for each sequence: its first step. All its steps count as sampled, but not the rows
        that repeat the last one. ValueError if nothing can be drawn yet.
        """
        if self.spec.sequence_length > 1:
            return self._sample_sequences(size // self.spec.sequence_length)
        slots, inverse = self._draw(size)
        generations = self.ring.generations.take(slots)
        ages = self.ring.num_added - 1 - generations
        self._count_draws(slots, ages)
        return Drawn(slots, generations, ages, inverse)

    def _sample_sequences(self, num: int) -> Drawn:
        length = self.spec.sequence_length
        drawn, inverse = self._draw(num)
        found = follow(self.ring.links, drawn, length=length)
        slots, is_step = found.slots.reshape(-1), found.is_step.reshape(-1)
        generations = self.ring.generations.take(slots)
        ages = self.ring.num_added - 1 - generations
        self._count_draws(slots[is_step], ages[is_step])
        generations = np.where(is_step, generations, NOBODYS)
        return Drawn(slots, generations, ages, np.repeat(inverse, length), found)

    def _draw(self, size: int) -> tuple[Int64Array, Float32Array]:
        if not len(self._sampler):
            raise ValueError(f"no transition of {self.spec.game} can be sampled yet")
        return self._sampler.draw(size, self._rng)

    def _count_draws(self, slots: Int64Array, ages: Int64Array) -> None:
        """Note that the learner gets these slots; one may come more than once."""
        self.counts.sampled += len(slots)
        # One of another type would be added ten times more slowly.
        np.add.at(self._times_sampled, slots, np.int32(1))
        self._sampled_ages.add(ages)

    def update_priorities(self, generations: Int64Array, priorities: Float32Array) -> None:
        """Set new priorities, finite and not negative; of one given twice the last counts.

        Transitions that can no longer be drawn (overwritten, or a frame of theirs) are dropped and
        counted; a sequence's repetitions are dropped without.
        """
        slots = self.ring.slots_of(generations)
        current = (slots >= 0) & self._is_ready[slots]
        is_stale = ~current & (generations != NOBODYS)
        self.counts.stale_priorities += int(np.count_nonzero(is_stale))
        slots = slots[current]
        stored = self.ring["priorities"]
        stored[slots] = priorities[current]
        # Read back, so that of a transition given twice all rows bring the same priority.
        self._sampler.update(slots, stored[slots])

    def priority_quantiles(self) -> tuple[float, ...]:
        """QUANTILES of the priorities of 4,096 slots spread evenly over the table, if drawable.

        The cost does not grow with the capacity; up to 4,096 entries the quantiles are exact.
        """
        slots = spread_slots(self.ring.num_entries)
        return quantiles_of(self.ring["priorities"][slots[self._is_ready[slots]]])

    def age_quantiles(self) -> tuple[float, ...]:
        """QUANTILES of the ages of the last 4,096 draws: entries stored since the one drawn."""
        return quantiles_of(self._sampled_ages.held())

    def times_sampled(self, slots: Int64Array) -> Int32Array:
        """How often each of these slots has been drawn, for a snapshot."""
        return self._times_sampled[slots]

    def restore(
        self,
        columns: Iterable[Columns],
        *,
        num_added: int,
        generations: Int64Array,
        priorities: Float32Array,
        times_sampled: Int32Array,
    ) -> None:
        """Fill this table, which must be empty, from a snapshot; its counts stay as they are.

        `columns` and `num_added` are those of TransitionRing.restore; `priorities`, newer than
        those in the columns, and `times_sampled` are of the entries of `generations` [E]. After a
        ValueError, for something that is damaged, the table is not to be used.
        """
        self.ring.restore(columns, num_added=num_added)
        slots = self.ring.slots_of(generations)
        here = slots >= 0
        if not np.all((priorities >= 0) & (priorities <= np.finfo(np.float32).max)):
            raise ValueError(f"stored priorities of {self.spec.game} are not all finite numbers")
        self.ring["priorities"][slots[here]] = priorities[here]
        self._times_sampled[slots[here]] = times_sampled[here]
        self._admit(self.ring.held_slots())

    def resized(self, capacity: int, sampler: Sampler) -> ReplayTable:
        """A table of another capacity with the newest entries, what is known of them, and counts.

        This one is not to be used any more. Transitions that cannot be drawn from the new one and
        never were count as overwritten. `sampler` is new and for slots 0..capacity-1. ValueError
        for a capacity that is too small; nothing has changed then.
        """
        table = ReplayTable(replace(self.spec, capacity=capacity), sampler=sampler, rng=self._rng)
        kept = self.ring.held_slots()[-capacity:]
        table.ring = self.ring.resized(capacity)
        slots = table.ring.held_slots()
        table._times_sampled[slots] = self._times_sampled[kept]
        table._sampled_ages = self._sampled_ages
        table._admit(slots)
        unsampled = self._is_ready & (self._times_sampled == 0)
        unsampled[kept[table._is_ready[slots]]] = False
        table.counts = replace(self.counts)
        table.counts.overwritten_unsampled += int(np.count_nonzero(unsampled))
        return table

    def check_valid(self) -> None:
        """Raises ValueError if ring, sampler and readiness contradict each other."""
        self.ring.check_valid()
        held = np.flatnonzero(self.ring.generations >= 0)
        expected = np.zeros(self.spec.capacity, np.bool_)
        expected[held[self.ring.ready(held)]] = True
        if not np.array_equal(expected, self._is_ready):
            raise ValueError(f"{self.spec.game}: the draw is not among the ready transitions")
        ready = np.flatnonzero(self._is_ready)
        if len(self._sampler) != len(ready):
            raise ValueError(f"{self.spec.game}: the number of ready transitions is wrong")
        try:
            self._sampler.check_valid(
                ready, self.ring["priorities"][ready], self.ring["teacher_values"][ready]
            )
        except ValueError as error:
            raise ValueError(f"{self.spec.game}: {error}") from error
