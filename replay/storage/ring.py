"""One game's entries in a ring: frames once, steps linked to their neighbours in time.

A slot holds one entry: the newest frame of an observation and what was done there. Links to the
step before and the step after (replay/storage/links.py) give back both the frame stack and the
successors, so neither is stored.

Every entry has a *generation*, a number that grows with every entry and never comes again, also
when a ring is restored after a crash or gets another capacity: keys that were handed out before
find their entry or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replay.columns import EntryShape, check_columns, select_rows, wrong_values
from replay.storage.frame_store import Compression, build_frame_store
from replay.storage.links import NO_SLOT, StreamLinks
from replay.types import BoolArray, Chunk, Columns, FrameArray, Int64Array, Successors

_MAX_ACTIONS = 256  # An action is stored in one byte.
_COPIED_AT_ONCE = 4_096  # Entries; bounds what a change of capacity needs besides both rings.


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSpec:
    """Shape of one game's table."""

    game: str
    # Entries kept; the oldest is overwritten first.
    capacity: int
    entry: EntryShape
    # Frames per observation.
    num_stack: int
    # Steps whose rewards are returned with a transition: n of n-step, else 0.
    num_successors: int = 0
    # Consecutive steps that a batch holds of whatever was drawn; 1: single steps.
    sequence_length: int = 1
    # How frames are stored.
    compression: Compression = "none"
    # Memory of one slot in the sampler; the default is that of a sum tree at its worst.
    sampler_bytes: int = 32

    @property
    def num_following(self) -> int:
        """Steps that must have followed a transition before it can be drawn, unless it ended."""
        # A sequence needs what follows its last step, too: returns bootstrap from there.
        after_sequence = self.sequence_length if self.sequence_length > 1 else 0
        return max(self.num_successors, after_sequence)

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """[S*C, H, W], or [S*C] of vectors."""
        channels, *sides = self.entry.frame_shape
        return (self.num_stack * channels, *sides)

    @property
    def label_bytes(self) -> int:
        """Memory of one slot without its frame: columns, bookkeeping and the sampler's part."""
        return self.entry.row_bytes + _BOOKKEEPING_BYTES + self.sampler_bytes

    @property
    def raw_bytes_per_entry(self) -> int:
        """Memory of one slot, were its frame not compressed."""
        return self.entry.frame_bytes + self.label_bytes

    @property
    def bytes_per_entry(self) -> int:
        """Memory of one slot; of compressed frames a guess, and on the safe side for Atari."""
        if self.compression == "none":
            return self.raw_bytes_per_entry
        return self.entry.frame_bytes // _SAFE_COMPRESSION + self.label_bytes

    @property
    def nbytes(self) -> int:
        """Memory of the whole table."""
        return self.capacity * self.bytes_per_entry


# Beside the columns: links 2 x 8, times sampled 4, whether it is ready 1.
_BOOKKEEPING_BYTES = 21
# Frames of Atari games become 8 to 30 times smaller.
_SAFE_COMPRESSION = 4


@dataclass(frozen=True, slots=True)
class _Stretch:
    """From some entry on, the generations of entries are consecutive."""

    # Generation of the stretch's first entry.
    generation: int
    # Entries that the ring had taken before it.
    written: int

    @property
    def offset(self) -> int:
        """Distance of an entry's place in the order of writing from its generation."""
        return self.written - self.generation


class TransitionRing:
    """Storage and links of one game's entries; knows nothing of priorities' meaning."""

    def __init__(self, spec: TableSpec) -> None:
        """Allocate the ring; its pages are touched only as they fill.

        ValueError for a capacity that is too small or more actions than a byte can tell apart.
        """
        least = 2 * (spec.num_stack + spec.num_following)
        if spec.capacity < least:
            raise ValueError(
                f"replay capacity of {spec.game} is {spec.capacity}; it must be at least {least}"
            )
        if not 1 <= spec.entry.num_actions <= _MAX_ACTIONS:
            raise ValueError(
                f"{spec.game} has {spec.entry.num_actions} actions; replay stores 1 to "
                f"{_MAX_ACTIONS}"
            )
        self.spec = spec
        size = spec.capacity
        self.frames = build_frame_store(spec.compression, size, spec.entry)
        self.links = StreamLinks(size)
        self._stored: dict[str, NDArray[Any]] = {}
        for column in spec.entry.columns:
            if column.kept_by == "links":
                self._stored[column.name] = getattr(self.links, column.name)
            elif column.kept_by == "ring":
                shape = (size, *spec.entry.row_shape(column))
                self._stored[column.name] = np.zeros(shape, column.stored_dtype or column.dtype)
        self._sent = [c.name for c in spec.entry.sent_columns if c.kept_by == "ring"]
        self.generations: Int64Array = self._stored["generations"]
        self.generations[:] = -1
        # The generation of the next entry: more than that of any entry ever added.
        self.num_added = 0
        self._num_written = 0  # Since this ring was made; its remainder is the next slot.
        self._stretches = [_Stretch(0, 0)]

    def __getitem__(self, name: str) -> NDArray[Any]:
        """One column by slot, [capacity, ...]; not that of the frames."""
        return self._stored[name]

    @property
    def num_entries(self) -> int:
        """Entries held now."""
        return min(self._num_written, self.spec.capacity)

    @property
    def oldest_generation(self) -> int:
        """Generation of the oldest entry held; `num_added` of an empty ring."""
        if not self._num_written:
            return self.num_added
        return int(self.generations[(self._num_written - self.num_entries) % self.spec.capacity])

    @property
    def num_bytes(self) -> int:
        """Memory that the entries held now take."""
        return self.frames.num_bytes + self.num_entries * self.spec.label_bytes

    def held_slots(self) -> Int64Array:
        """Slots of all entries held, oldest first."""
        first = self._num_written - self.num_entries
        return np.arange(first, self._num_written, dtype=np.int64) % self.spec.capacity

    def slots_of(self, generations: Int64Array) -> Int64Array:
        """Where the entries of these generations are; -1 for those that are gone."""
        firsts = np.array([stretch.generation for stretch in self._stretches])
        offsets = np.array([stretch.offset for stretch in self._stretches])
        stretch = np.maximum(np.searchsorted(firsts, generations, side="right") - 1, 0)
        slots = (generations + offsets[stretch]) % self.spec.capacity
        return np.where(self.generations[slots] == generations, slots, NO_SLOT)

    def check_fits(self, chunk: Chunk) -> None:
        """Raises ValueError if the chunk is malformed or of another shape than this ring's entries.

        That holds for good, whatever the ring contains, so nobody needs to be kept out meanwhile.
        """
        chunk.check_runs()
        entry, what = self.spec.entry, f"chunk of {chunk.game}:"
        wanted = {column.name: column for column in entry.sent_columns}
        if wrong := wanted.keys() ^ chunk.columns.keys():
            raise ValueError(
                f"{what} {', '.join(sorted(wrong))} is sent or stored, but not both; run actors "
                "and replay from the same version of the code"
            )
        for name, column in wanted.items():
            array, shape = chunk[name], (chunk.num_entries, *entry.row_shape(column))
            if array.shape != shape or not np.can_cast(array.dtype, column.dtype, "safe"):
                raise ValueError(
                    f"{what} {name} has type {array.dtype} and shape {array.shape}, expected "
                    f"{np.dtype(column.dtype)} and {shape}"
                )
            if mistake := wrong_values(array, column.values):
                raise ValueError(f"{what} {name} {mistake}")
        actions = chunk["actions"]
        if np.any((actions < 0) | (actions >= entry.num_actions)):
            raise ValueError(f"{what} actions must lie between 0 and {entry.num_actions - 1}")

    def check_next(self, chunk: Chunk) -> None:
        """Raises ValueError if a chunk that fits cannot come next: it is too large, or too late."""
        capacity = self.spec.capacity
        if chunk.num_entries > capacity // 2:
            raise ValueError(
                f"a chunk of {chunk.num_entries} entries is too large for {self.spec.game}'s "
                f"replay capacity of {capacity}; use chunks of at most half the capacity"
            )
        self.links.check_order(chunk)

    def claim(self, num_entries: int) -> tuple[Int64Array, Int64Array]:
        """Free the next slots, as many as given (at most half the capacity).

        Returns (slots that will be overwritten next, newer slots whose frame stack is broken by
        it).
        """
        stop = self._num_written + num_entries
        slots = np.arange(self._num_written, stop, dtype=np.int64) % self.spec.capacity
        if stop <= self.spec.capacity or not num_entries:
            return slots, np.zeros(0, np.int64)
        broken = self.links.followers(slots, self.spec.num_stack - 1)
        self.links.break_around(slots)
        return slots, broken

    def write(self, slots: Int64Array, chunk: Chunk) -> None:
        """Store a chunk's entries in slots that `claim` gave and link them in time."""
        if not len(slots):
            return
        for part, rows in self._parts(len(slots)):
            for name in self._sent:
                self._stored[name][part] = chunk[name][rows]
            self._stored["weights_versions"][part] = chunk.weights_version
        self.frames.write(int(slots[0]), chunk["frames"])
        self._note_generation(self.num_added, self._num_written)
        self.generations[slots] = self.num_added + np.arange(len(slots))
        self.num_added += len(slots)
        self._num_written += len(slots)
        self.links.link(slots, chunk)

    def _parts(self, num_entries: int) -> Iterator[tuple[slice, slice]]:
        """(slots, rows) of the next entries, in two parts if the ring's end lies between them."""
        first = self._num_written % self.spec.capacity
        room = self.spec.capacity - first
        yield slice(first, first + min(room, num_entries)), slice(0, room)
        if num_entries > room:
            yield slice(0, num_entries - room), slice(room, num_entries)

    def columns(self, slots: Int64Array) -> dict[str, NDArray[Any]]:
        """Copies of all that is stored of entries [E]; `restore` makes a ring of them again."""
        columns: dict[str, NDArray[Any]] = {
            name: values[slots] for name, values in self._stored.items()
        }
        columns.update(self.frames.columns(slots))
        return columns

    def restore(
        self, columns: Columns | Iterable[Columns], *, num_added: int | None = None
    ) -> None:
        """Fill this ring, which must be empty, with what `columns` of another ring gave, in order.

        Of more entries than it holds, the newest are kept. Streams go on where they were, so actors
        that play on and those of new serial numbers are understood; an actor that began again under
        a number that has been used is refused (`StreamLinks.check_order`).

        `num_added` is the generation of the next entry, above any that was ever given out, also by
        a process that died after these columns were taken; one after the newest, if None. After a
        ValueError, for columns of another spec or not in order, the ring is not to be used.
        """
        assert not self._num_written, "only an empty ring can be restored"
        for part in [columns] if isinstance(columns, Mapping) else columns:
            self._append_stored(part)
        self.num_added = max(self.num_added, num_added or 0)
        self.links.relink(self.held_slots())

    def _append_stored(self, columns: Columns) -> None:
        check_columns(columns, like=self._stored, game=self.spec.game, above=self.num_added - 1)
        surplus = len(columns["generations"]) - self.spec.capacity
        if surplus > 0:
            columns = select_rows(columns, np.arange(len(columns["generations"])) >= surplus)
        generations = columns["generations"]
        if not len(generations):
            return
        first_slot = self._num_written % self.spec.capacity
        for slots, rows in self._parts(len(generations)):
            for name, values in self._stored.items():
                values[slots] = columns[name][rows]
        self.frames.load(first_slot, columns)
        steps = np.diff(generations, prepend=self.num_added - 1)
        for row in np.flatnonzero(steps > 1).tolist():
            self._note_generation(int(generations[row]), self._num_written + row)
        self._num_written += len(generations)
        self.num_added = int(generations[-1]) + 1

    def _note_generation(self, generation: int, written: int) -> None:
        """Entry number `written` has this generation: a new stretch, if it leaves a gap."""
        if generation - self._stretches[-1].generation == written - self._stretches[-1].written:
            return
        self._stretches.append(_Stretch(generation, written))

    def resized(self, capacity: int) -> TransitionRing:
        """A ring of another capacity with the newest entries of this one and their generations.

        Needs memory for both rings. ValueError for a capacity that is too small.
        """
        ring = TransitionRing(replace(self.spec, capacity=capacity))
        slots = self.held_slots()[-capacity:]
        parts = (
            self.columns(slots[start : start + _COPIED_AT_ONCE])
            for start in range(0, len(slots), _COPIED_AT_ONCE)
        )
        ring.restore(parts, num_added=self.num_added)
        return ring

    def history(self, slots: Int64Array) -> tuple[Int64Array, BoolArray]:
        """Slots [B, S] of the frames of each observation, and [B] whether all of them are here."""
        return self.links.history(slots, self.spec.num_stack)

    def ready(self, slots: Int64Array) -> BoolArray:
        """[B] Whether each can be sampled: a transition whose frames and successors are here."""
        links = self.links
        _, complete = self.history(slots)
        ready: BoolArray = complete & links.is_transition[slots] & (self.generations[slots] >= 0)
        current = slots
        pending = ready.copy()
        discounts = self["discounts"]
        for _ in range(self.spec.num_following):
            pending &= (discounts[current] > 0) & links.is_transition[current]
            after = links.next[current]
            ready &= ~pending | (after >= 0)
            pending &= after >= 0
            current = np.where(pending, after, current)
        return ready

    def gather_observations(self, slots: Int64Array, out: FrameArray) -> None:
        """Write the frame stacks of `slots` into `out` [B, S*C, ...], which is contiguous."""
        stack = self.links.stacks(slots, self.spec.num_stack)
        shape = (len(slots), self.spec.num_stack, *self.spec.entry.frame_shape)
        self.frames.read(stack, out.reshape(shape))

    def gather_successors(self, slots: Int64Array, out: Successors) -> None:
        """Write the next n steps of `slots`, which must be ready, into `out`."""
        links = self.links
        rewards, discounts, lengths = out.rewards, out.discounts, out.lengths
        rewards[:], discounts[:], lengths[:] = 0.0, 1.0, 0
        current = slots
        running = np.ones(len(slots), np.bool_)
        ended = np.zeros(len(slots), np.bool_)
        for step in range(self.spec.num_successors):
            running &= links.is_transition[current]
            rewards[running, step] = self["rewards"][current[running]]
            discounts[running, step] = self["discounts"][current[running]]
            lengths += running
            ended |= discounts[:, step] == 0
            running &= ~ended
            current = np.where(running, links.next[current], current)
        self.gather_observations(current, out.bootstrap_observations)
        out.bootstrap_observations[ended] = 0

    def check_valid(self) -> None:
        """Raises ValueError if frames, links, generations or step numbers contradict each other."""
        game = self.spec.game
        held = self.held_slots()
        if np.count_nonzero(self.generations >= 0) != len(held):
            raise ValueError(f"{game}: not {len(held)} entries are held")
        generations = self.generations[held]
        if (
            np.any(np.diff(generations) <= 0)
            or np.any(generations >= self.num_added)
            or not np.array_equal(self.slots_of(generations), held)
        ):
            raise ValueError(f"{game}: the ring does not hold the last entries added")
        try:
            self.frames.check_valid(held)
            self.links.check_valid(held, self.generations)
        except ValueError as error:
            raise ValueError(f"{game}: {error}") from error
