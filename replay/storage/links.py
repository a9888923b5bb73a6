"""Which slots of a ring hold consecutive steps of one stream.

Links to the step before and the step after, within an episode, are all that is kept of the order
in time; stacks of frames and n-step returns follow from them, and so does what can no longer be
had because a neighbour was overwritten or never arrived.

Shape letters:
    E  entries that are written
    B  slots that are asked about;  S  frames per observation
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replay.types import BoolArray, Chunk, Int64Array

# There is no neighbour, or it is gone.
NO_SLOT = -1


@dataclass(frozen=True, slots=True)
class _Tail:
    """Newest entry of a stream."""

    slot: int
    step: int


class StreamLinks:
    """Streams, steps and neighbours of the entries in `capacity` slots."""

    def __init__(self, capacity: int) -> None:
        """Nothing is held yet."""
        self.streams = np.zeros(capacity, np.int64)
        self.steps = np.zeros(capacity, np.int64)
        self.is_first = np.zeros(capacity, np.bool_)
        self.is_transition = np.zeros(capacity, np.bool_)
        # One place more: NO_SLOT as an index means the last place, so it leads to itself. Links
        # have the type of an index, so they are followed without a copy.
        self._back = np.full(capacity + 1, NO_SLOT, np.int64)
        self._forward = np.full(capacity + 1, NO_SLOT, np.int64)
        self.previous, self.next = self._back[:-1], self._forward[:-1]
        self._tails: dict[int, _Tail] = {}

    def check_order(self, chunk: Chunk) -> None:
        """Raises ValueError for a run that does not come after what its stream has sent before."""
        newest: dict[int, int] = {}
        for stream, first_step, length in zip(
            chunk.streams.tolist(), chunk.first_steps.tolist(), chunk.lengths.tolist(), strict=True
        ):
            if not length:
                continue
            tail = self._tails.get(stream)
            before = newest.get(stream, tail.step if tail else -1)
            if first_step <= before:
                raise ValueError(
                    f"chunk of {chunk.game}: steps out of order: a run of stream {stream} begins "
                    f"with step {first_step}, but replay has its step {before} already; every "
                    "step may be sent once, and a restarted actor needs a new serial number"
                )
            newest[stream] = first_step + length - 1

    def break_around(self, slots: Int64Array) -> None:
        """Forget the entries of `slots`, a stretch of the ring that is overwritten next."""
        successors = self.next[slots]
        self.previous[successors[successors >= 0]] = NO_SLOT
        self.next[slots] = NO_SLOT
        first, capacity = int(slots[0]), len(self.next)
        for stream in np.unique(self.streams[slots]).tolist():
            tail = self._tails.get(stream)
            # A stream that has sent nothing for a whole round of the ring begins anew.
            if tail is not None and (tail.slot - first) % capacity < len(slots):
                del self._tails[stream]

    def followers(self, slots: Int64Array, distance: int) -> Int64Array:
        """All slots up to `distance` steps after `slots`, in no particular order."""
        found = [np.zeros(0, np.int64)]
        for _ in range(distance):
            slots = self.next[slots]
            slots = slots[slots >= 0]
            found.append(slots)
        return np.concatenate(found)

    def predecessors(self, slots: Int64Array, distance: int) -> Int64Array:
        """All slots up to `distance` steps before `slots`, and these, each once and ascending."""
        found = [slots]
        for _ in range(distance):
            slots = self.previous[slots]
            slots = slots[slots >= 0]
            found.append(slots)
        return np.unique(np.concatenate(found))

    def link(self, slots: Int64Array, chunk: Chunk) -> None:
        """Connect each entry with the one before it, unless an episode starts or steps are lost."""
        stops = np.cumsum(chunk.lengths)
        starts = stops - chunk.lengths
        self.is_first[slots] = chunk["is_first"]
        self.is_transition[slots] = chunk["is_transition"]
        self.streams[slots] = np.repeat(chunk.streams, chunk.lengths)
        steps = np.repeat(chunk.first_steps - starts, chunk.lengths) + np.arange(len(slots))
        self.steps[slots] = steps
        previous = np.roll(slots, 1)
        for stream, start, stop in zip(
            chunk.streams.tolist(), starts.tolist(), stops.tolist(), strict=True
        ):
            if start == stop:
                continue
            tail = self._tails.get(stream)
            goes_on = tail is not None and tail.step + 1 == steps[start]
            previous[start] = tail.slot if tail is not None and goes_on else NO_SLOT
            self._tails[stream] = _Tail(int(slots[stop - 1]), int(steps[stop - 1]))
        # Nothing follows the last observation of a truncated episode, whatever the chunk says.
        follows = (previous >= 0) & ~chunk["is_first"] & self.is_transition[previous]
        self.previous[slots] = np.where(follows, previous, NO_SLOT)
        self.next[slots] = NO_SLOT
        self.next[previous[follows]] = slots[follows]

    def relink(self, held: Int64Array) -> None:
        """Find all links and newest entries again from the streams and steps of slots `held`.

        ValueError for a step that is there twice.
        """
        order = held[np.lexsort((self.steps[held], self.streams[held]))]
        before, after = order[:-1], order[1:]
        same_stream = self.streams[before] == self.streams[after]
        distances = self.steps[after] - self.steps[before]
        if np.any(same_stream & (distances == 0)):
            raise ValueError("stored transitions hold a step of a stream twice")
        follows = same_stream & (distances == 1)
        follows &= self.is_transition[before] & ~self.is_first[after]
        self.previous[:] = NO_SLOT
        self.next[:] = NO_SLOT
        self.previous[after[follows]] = before[follows]
        self.next[before[follows]] = after[follows]
        last = np.append(~same_stream, True)[: len(order)]
        self._tails = {
            int(self.streams[slot]): _Tail(slot, int(self.steps[slot]))
            for slot in order[last].tolist()
        }

    def stacks(self, slots: Int64Array, num_stack: int) -> Int64Array:
        """Slots [B, S] of the newest `num_stack` frames of each observation, oldest first.

        -1 where the episode had not begun, or a step is missing. `slots` [B] must be of this ring,
        or -1.
        """
        stack = np.empty((num_stack, len(slots)), np.int64)
        stack[-1] = slots
        for row in range(num_stack - 1, 0, -1):
            # Wrapped instead of checked: only then does NumPy write straight to where it is told.
            self._back.take(stack[row], out=stack[row - 1], mode="wrap")
        return np.ascontiguousarray(stack.T)

    def path(self, slots: Int64Array, length: int) -> Int64Array:
        """Slots [length + 1, B] of each entry and of those that follow it; -1 behind the last."""
        path = np.empty((length + 1, len(slots)), np.int64)
        path[0] = slots
        for row in range(length):
            self._forward.take(path[row], out=path[row + 1], mode="wrap")
        return path

    def history(self, slots: Int64Array, num_stack: int) -> tuple[Int64Array, BoolArray]:
        """(what `stacks` gives; bool [B] whether all frames of each are here)."""
        stack = self.stacks(slots, num_stack)
        older, newer = stack[:, :-1], stack[:, 1:]
        is_here: BoolArray = (older >= 0) | (newer < 0) | self.is_first[newer]
        return stack, np.logical_and.reduce(is_here, axis=1)

    def check_valid(self, held: Int64Array, generations: Int64Array) -> None:
        """Raises ValueError if links and step numbers of slots `held` contradict each other."""
        before = self.previous[held]
        linked = before >= 0
        before, after = before[linked], held[linked]
        if not np.array_equal(self.next[before], after):
            raise ValueError("links forward and backward disagree")
        if np.count_nonzero(self.next >= 0) != len(after):
            raise ValueError("a link leads forward only")
        if np.any(generations[before] >= generations[after]):
            raise ValueError("a link leads back to a newer entry")
        if np.any(self.streams[before] != self.streams[after]):
            raise ValueError("a link joins two streams")
        if np.any(self.steps[before] + 1 != self.steps[after]):
            raise ValueError("a link skips steps")
        if np.any(self.is_first[after]) or not np.all(self.is_transition[before]):
            raise ValueError("a link joins two episodes")
        for stream, tail in self._tails.items():
            if self.streams[tail.slot] != stream or self.steps[tail.slot] != tail.step:
                raise ValueError("the newest entry of a stream is mistaken")
