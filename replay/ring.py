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
# value 4, priority 4, version 8, samples 2, four flags, and 16 to 32 of the sum tree.
_BOOKKEEPING_BYTES = 100


@dataclass(frozen=True, slots=True)
class _Tail:
    """Newest entry of a stream."""

    slot: int
    generation: int
    step: int


class TransitionRing:
    """Storage and links of one game's entries; knows nothing of priorities."""

    def __init__(self, spec: TableSpec) -> None:
        """Allocate the ring; its pages are touched only as they fill."""
        if spec.capacity < 2 * (spec.num_stack + spec.num_successors):
            raise ValueError(
                f"replay capacity of {spec.game} is {spec.capacity}; it must be at least "
                f"{2 * (spec.num_stack + spec.num_successors)}"
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

    def claim(self, num_entries: int) -> tuple[Int64Array, Int64Array]:
        """Free the next slots, as many as given.

        Returns:
            (slots that will be overwritten next, newer slots whose frame stack is broken by it).
        """
        if num_entries > self.spec.capacity // 2:
            raise ValueError(
                f"a chunk of {num_entries} entries is too large for {self.spec.game}'s replay "
                f"capacity of {self.spec.capacity}; use chunks of at most half the capacity"
            )
        slots = (self._num_added + np.arange(num_entries)) % self.spec.capacity
        if self._num_added + num_entries <= self.spec.capacity:
            return slots, np.zeros(0, np.int64)
        broken = []
        followers = slots
        for _ in range(self.spec.num_stack - 1):
            followers = self._next[followers]
            followers = followers[followers >= 0].astype(np.int64)
            broken.append(followers)
        successors = self._next[slots]
        self._previous[successors[successors >= 0]] = _NO_STEP
        self._next[slots] = _NO_STEP
        for stream in np.unique(self.streams[slots]).tolist():
            self._forget_if_overwritten(stream, slots)
        self.generations[slots] = -1
        return slots, np.concatenate([np.zeros(0, np.int64), *broken])

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
        previous = np.roll(slots, 1)
        start = 0
        for stream, first_step, length in zip(
            chunk.streams.tolist(), chunk.first_steps.tolist(), chunk.lengths.tolist(), strict=True
        ):
            stop = start + length
            if length == 0:
                continue
            previous[start] = self._tail_slot(stream, first_step)
            self.streams[slots[start:stop]] = stream
            self.steps[slots[start:stop]] = first_step + np.arange(length)
            last = int(slots[stop - 1])
            self._tails[stream] = _Tail(last, int(self.generations[last]), first_step + length - 1)
            start = stop
        previous[chunk.is_first] = _NO_STEP
        self._previous[slots] = previous
        self._next[slots] = _NO_STEP
        linked = previous >= 0
        self._next[previous[linked]] = slots[linked]

    def _tail_slot(self, stream: int, first_step: int) -> int:
        """Slot of the step before `first_step` of the stream, if it is still here."""
        tail = self._tails.get(stream)
        if tail is None or tail.step + 1 != first_step:
            return _NO_STEP
        return tail.slot if self.generations[tail.slot] == tail.generation else _NO_STEP

    def _forget_if_overwritten(self, stream: int, slots: Int64Array) -> None:
        """Drop the tail of a stream that has sent nothing for a whole round of the ring."""
        tail = self._tails.get(stream)
        if tail is not None and tail.slot in slots and self.generations[tail.slot] == tail.generation:
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
        """[B] Whether a transition can be sampled: its frames and the successors it needs are here."""
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

    def gather_successors(self, slots: Int64Array) -> Successors:
        """The next n steps of `slots`, which must be ready."""
        count, num_steps = len(slots), self.spec.num_successors
        rewards = np.zeros((count, num_steps), np.float32)
        discounts = np.ones((count, num_steps), np.float32)
        lengths = np.zeros(count, np.int64)
        current = slots
        running = np.ones(count, np.bool_)
        for step in range(num_steps):
            running &= self._is_transition[current]
            rewards[:, step] = np.where(running, self.rewards[current], 0.0)
            discounts[:, step] = np.where(running, self.discounts[current], 1.0)
            lengths += running
            running = running & (discounts[:, step] > 0)
            current = np.where(running, self._next[current], current)
        bootstrap = np.zeros((count, *self.spec.observation_shape), np.uint8)
        alive = np.flatnonzero(discounts.prod(axis=1) > 0)
        observations = np.empty((len(alive), *self.spec.observation_shape), np.uint8)
        self.gather_observations(current[alive].astype(np.int64), observations)
        bootstrap[alive] = observations
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
        before = self._previous[held].astype(np.int64)
        linked = before >= 0
        if not np.array_equal(self._next[before[linked]], held[linked]):
            raise ValueError(f"{self.spec.game}: links forward and backward disagree")
        if np.any(self.streams[before[linked]] != self.streams[held[linked]]):
            raise ValueError(f"{self.spec.game}: a link joins two streams")
        if np.any(self.steps[before[linked]] + 1 != self.steps[held[linked]]):
            raise ValueError(f"{self.spec.game}: a link skips steps")
        if np.any(self._is_first[held[linked]]):
            raise ValueError(f"{self.spec.game}: a link crosses the start of an episode")
