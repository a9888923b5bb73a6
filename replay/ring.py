"""One game's entries in a ring: frames once, steps linked to their neighbours in time.

A slot holds one entry: the newest frame of an observation and what was done there. Links to the
step before and the step after (within an episode) give back both the frame stack and the
successors, so neither is stored. What a slot *cannot* give any more, because a neighbour was
overwritten or never arrived, is known from the same links.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replay.types import BoolArray, Chunk, Int64Array, Successors, UInt8Array

_NO_STEP = -1  # There is no neighbour, or it is gone.


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSpec:
    """Shape of one game's table."""

    game: str
    capacity: int
    """Entries kept; the oldest is overwritten first."""
    frame_shape: tuple[int, int, int]
    """One frame [C, H, W]."""
    num_stack: int
    """Frames per observation."""
    num_actions: int
    """Width of the student's logits."""
    num_teacher_actions: int
    """Width of the teacher's logits; 0 without a teacher."""
    num_teacher_features: int
    """Width of the teacher's features; 0 when they are not stored."""
    num_successors: int
    """Steps a transition must be followed by before it can be sampled: n of n-step, else 0."""

    @property
    def observation_shape(self) -> tuple[int, int, int]:
        """[S*C, H, W]."""
        channels, height, width = self.frame_shape
        return (self.num_stack * channels, height, width)

    @property
    def bytes_per_entry(self) -> int:
        """Memory of one slot, frame and labels and bookkeeping."""
        frame = int(np.prod(self.frame_shape))
        labels = 2 * (self.num_actions + self.num_teacher_actions + self.num_teacher_features)
        return frame + labels + _BOOKKEEPING_BYTES

    @property
    def nbytes(self) -> int:
        """Memory of the whole table."""
        return self.capacity * self.bytes_per_entry


# Links 2 x 4, generation 8, stream 8, step 8, action 1, reward 4, discount 4, epsilon 4,
# value 4, priority 4, version 8, times sampled 4, three flags, and 16 to 32 of the sum tree.
_BOOKKEEPING_BYTES = 100
_MAX_ACTIONS = 256  # An action is stored in one byte.


@dataclass(frozen=True, slots=True)
class _Tail:
    """Newest entry of a stream."""

    slot: int
    generation: int
    step: int


class TransitionRing:
    """Storage and links of one game's entries; knows nothing of priorities."""

    def __init__(self, spec: TableSpec) -> None:
        """Allocate the ring; its pages are touched only as they fill.

        ValueError for a capacity that is too small or more actions than a byte can tell apart.
        """
        if spec.capacity < 2 * (spec.num_stack + spec.num_successors):
            raise ValueError(
                f"replay capacity of {spec.game} is {spec.capacity}; it must be at least "
                f"{2 * (spec.num_stack + spec.num_successors)}"
            )
        if not 1 <= spec.num_actions <= _MAX_ACTIONS:
            raise ValueError(
                f"{spec.game} has {spec.num_actions} actions; replay stores 1 to {_MAX_ACTIONS}"
            )
        self.spec = spec
        size = spec.capacity
        self.frames = np.zeros((size, *spec.frame_shape), np.uint8)
        self.actions = np.zeros(size, np.uint8)
        self.rewards = np.zeros(size, np.float32)
        self.discounts = np.zeros(size, np.float32)
        self.epsilons = np.zeros(size, np.float32)
        self.student_logits = np.zeros((size, spec.num_actions), np.float16)
        self.teacher_logits = np.zeros((size, spec.num_teacher_actions), np.float16)
        self.teacher_features = np.zeros((size, spec.num_teacher_features), np.float16)
        self.teacher_values = np.zeros(size, np.float32)
        self.priorities = np.zeros(size, np.float32)
        self.weights_versions = np.zeros(size, np.int64)
        self.streams = np.zeros(size, np.int64)
        self.steps = np.zeros(size, np.int64)
        self.generations = np.full(size, -1, np.int64)
        self._is_first = np.zeros(size, np.bool_)
        self._is_transition = np.zeros(size, np.bool_)
        self._previous = np.full(size, _NO_STEP, np.int32)
        self._next = np.full(size, _NO_STEP, np.int32)
        self._tails: dict[int, _Tail] = {}
        self._num_added = 0

    @property
    def num_added(self) -> int:
        """Entries ever added; the generation of the next one."""
        return self._num_added

    @property
    def num_entries(self) -> int:
        """Entries held now."""
        return min(self._num_added, self.spec.capacity)

    def check_fits(self, chunk: Chunk) -> None:
        """Raises ValueError if the chunk is malformed or does not fit this ring."""
        chunk.check()
        spec = self.spec
        if chunk.num_entries > spec.capacity // 2:
            raise ValueError(
                f"a chunk of {chunk.num_entries} entries is too large for {spec.game}'s replay "
                f"capacity of {spec.capacity}; use chunks of at most half the capacity"
            )
        for name, array, expected in (
            ("frames", chunk.frames, spec.frame_shape),
            ("student_logits", chunk.student_logits, (spec.num_actions,)),
            ("teacher_logits", chunk.teacher_logits, (spec.num_teacher_actions,)),
            ("teacher_features", chunk.teacher_features, (spec.num_teacher_features,)),
        ):
            if array.shape[1:] != expected:
                raise ValueError(
                    f"chunk of {chunk.game}: a row of {name} has shape {array.shape[1:]}, "
                    f"expected {expected}"
                )
        if np.any((chunk.actions < 0) | (chunk.actions >= spec.num_actions)):
            raise ValueError(
                f"chunk of {chunk.game}: actions must lie between 0 and {spec.num_actions - 1}"
            )

    def claim(self, num_entries: int) -> tuple[Int64Array, Int64Array]:
        """Free the next slots, as many as given (at most half the capacity).

        Returns:
            (slots that will be overwritten next, newer slots whose frame stack is broken by it).
        """
        stop = self._num_added + num_entries
        slots = np.arange(self._num_added, stop, dtype=np.int64) % self.spec.capacity
        if stop <= self.spec.capacity:
            return slots, np.zeros(0, np.int64)
        broken = [np.zeros(0, np.int64)]
        followers = slots
        for _ in range(self.spec.num_stack - 1):
            followers = self._next[followers].astype(np.int64)
            followers = followers[followers >= 0]
            broken.append(followers)
        successors = self._next[slots]
        self._previous[successors[successors >= 0]] = _NO_STEP
        self._next[slots] = _NO_STEP
        self._forget_tails(slots, oldest_kept=stop - self.spec.capacity)
        return slots, np.concatenate(broken)

    def write(self, slots: Int64Array, chunk: Chunk) -> None:
        """Store a chunk's entries in slots that `claim` gave and link them in time."""
        self.frames[slots] = chunk.frames
        self.actions[slots] = chunk.actions
        self.rewards[slots] = chunk.rewards
        self.discounts[slots] = chunk.discounts
        self.epsilons[slots] = chunk.epsilons
        self.student_logits[slots] = chunk.student_logits
        self.teacher_logits[slots] = chunk.teacher_logits
        self.teacher_features[slots] = chunk.teacher_features
        self.teacher_values[slots] = chunk.teacher_values
        self.priorities[slots] = chunk.priorities
        self.weights_versions[slots] = chunk.weights_version
        self._is_first[slots] = chunk.is_first
        self._is_transition[slots] = chunk.is_transition
        self.generations[slots] = self._num_added + np.arange(len(slots))
        self._num_added += len(slots)
        self._link(slots, chunk)

    def _link(self, slots: Int64Array, chunk: Chunk) -> None:
        """Connect each entry with the one before it, unless an episode starts or steps are lost."""
        stops = np.cumsum(chunk.lengths)
        starts = stops - chunk.lengths
        self.streams[slots] = np.repeat(chunk.streams, chunk.lengths)
        self.steps[slots] = np.repeat(chunk.first_steps - starts, chunk.lengths)
        self.steps[slots] += np.arange(len(slots))
        previous = np.roll(slots, 1)
        for stream, start, stop in zip(
            chunk.streams.tolist(), starts.tolist(), stops.tolist(), strict=True
        ):
            if start == stop:
                continue
            first, last = int(slots[start]), int(slots[stop - 1])
            previous[start] = self._tail_slot(stream, int(self.steps[first]))
            self._tails[stream] = _Tail(last, int(self.generations[last]), int(self.steps[last]))
        # Nothing follows the last observation of a truncated episode, whatever the chunk says.
        follows = (previous >= 0) & ~chunk.is_first & self._is_transition[previous]
        self._previous[slots] = np.where(follows, previous, _NO_STEP)
        self._next[slots] = _NO_STEP
        self._next[previous[follows]] = slots[follows]

    def _tail_slot(self, stream: int, first_step: int) -> int:
        """Slot of the step before `first_step` of the stream, if it is still here."""
        tail = self._tails.get(stream)
        if tail is None or tail.step + 1 != first_step:
            return _NO_STEP
        return tail.slot

    def _forget_tails(self, slots: Int64Array, *, oldest_kept: int) -> None:
        """Drop the tails of streams that have sent nothing for a whole round of the ring."""
        for stream in np.unique(self.streams[slots]).tolist():
            tail = self._tails.get(stream)
            if tail is not None and tail.generation < oldest_kept:
                del self._tails[stream]

    def history(self, slots: Int64Array) -> tuple[Int64Array, BoolArray]:
        """Slots of the frames of each observation.

        Returns:
            (int64 [B, S] slots, oldest first, -1 where the episode had not begun;
            bool [B] whether all of them are here).
        """
        stack = np.full((len(slots), self.spec.num_stack), _NO_STEP, np.int64)
        stack[:, -1] = slots
        complete = np.ones(len(slots), np.bool_)
        current = slots
        begun = np.ones(len(slots), np.bool_)
        for column in range(self.spec.num_stack - 2, -1, -1):
            begun = begun & ~self._is_first[current]
            before = self._previous[current].astype(np.int64)
            complete &= ~begun | (before >= 0)
            begun &= before >= 0
            current = np.where(begun, before, current)
            stack[begun, column] = current[begun]
        return stack, complete

    def ready(self, slots: Int64Array) -> BoolArray:
        """[B] Whether each can be sampled: a transition whose frames and successors are here."""
        _, complete = self.history(slots)
        ready: BoolArray = complete & self._is_transition[slots] & (self.generations[slots] >= 0)
        current = slots
        pending = ready.copy()
        for _ in range(self.spec.num_successors):
            pending &= (self.discounts[current] > 0) & self._is_transition[current]
            after = self._next[current].astype(np.int64)
            ready &= ~pending | (after >= 0)
            pending &= after >= 0
            current = np.where(pending, after, current)
        return ready

    def completed_by(self, slots: Int64Array) -> Int64Array:
        """Slots that may have become ready now that `slots` are written: they and steps before."""
        candidates = [slots]
        current = slots
        for _ in range(self.spec.num_successors):
            current = self._previous[current].astype(np.int64)
            current = current[current >= 0]
            candidates.append(current)
        return np.unique(np.concatenate(candidates))

    def gather_observations(self, slots: Int64Array, out: UInt8Array) -> None:
        """Write the frame stacks of `slots` into `out` [B, S*C, H, W]."""
        stack, _ = self.history(slots)
        missing = stack < 0
        frames = out.reshape(len(slots), self.spec.num_stack, *self.spec.frame_shape)
        np.take(self.frames, np.where(missing, 0, stack), axis=0, out=frames, mode="clip")
        frames[missing] = 0

    def gather_successors(self, slots: Int64Array, out: UInt8Array | None = None) -> Successors:
        """The next n steps of `slots`, which must be ready; the observations in `out`, if given."""
        count, num_steps = len(slots), self.spec.num_successors
        rewards = np.zeros((count, num_steps), np.float32)
        discounts = np.ones((count, num_steps), np.float32)
        lengths = np.zeros(count, np.int64)
        current = slots
        running = np.ones(count, np.bool_)
        ended = np.zeros(count, np.bool_)
        for step in range(num_steps):
            running &= self._is_transition[current]
            rewards[running, step] = self.rewards[current[running]]
            discounts[running, step] = self.discounts[current[running]]
            lengths += running
            ended |= discounts[:, step] == 0
            running &= ~ended
            current = np.where(running, self._next[current], current)
        bootstrap = (
            np.empty((count, *self.spec.observation_shape), np.uint8) if out is None else out
        )
        self.gather_observations(current, bootstrap)
        bootstrap[ended] = 0
        return Successors(
            rewards=rewards,
            discounts=discounts,
            lengths=lengths,
            bootstrap_observations=bootstrap,
        )

    def check_valid(self) -> None:
        """Raises ValueError if links, generations or step numbers contradict each other."""
        held = np.flatnonzero(self.generations >= 0)
        if len(held) != self.num_entries:
            raise ValueError(f"{self.spec.game}: {len(held)} entries held, not {self.num_entries}")
        expected = np.arange(self._num_added - self.num_entries, self._num_added)
        if not np.array_equal(np.sort(self.generations[held]), expected):
            raise ValueError(f"{self.spec.game}: the ring does not hold the last entries added")
        self._check_links(held)
        for stream, tail in self._tails.items():
            if (
                self.generations[tail.slot] != tail.generation
                or self.streams[tail.slot] != stream
                or self.steps[tail.slot] != tail.step
            ):
                raise ValueError(f"{self.spec.game}: the newest entry of a stream is mistaken")

    def _check_links(self, held: Int64Array) -> None:
        before = self._previous[held].astype(np.int64)
        linked = before >= 0
        if not np.array_equal(self._next[before[linked]], held[linked]):
            raise ValueError(f"{self.spec.game}: links forward and backward disagree")
        if np.count_nonzero(self._next >= 0) != np.count_nonzero(linked):
            raise ValueError(f"{self.spec.game}: a link leads forward only")
        if np.any(self.generations[before[linked]] >= self.generations[held[linked]]):
            raise ValueError(f"{self.spec.game}: a link leads back to a newer entry")
        if np.any(self.streams[before[linked]] != self.streams[held[linked]]):
            raise ValueError(f"{self.spec.game}: a link joins two streams")
        if np.any(self.steps[before[linked]] + 1 != self.steps[held[linked]]):
            raise ValueError(f"{self.spec.game}: a link skips steps")
        if np.any(self._is_first[held[linked]]) or not np.all(self._is_transition[before[linked]]):
            raise ValueError(f"{self.spec.game}: a link joins two episodes")
