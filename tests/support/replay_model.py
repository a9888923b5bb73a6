"""A slow replay table in plain Python: lists and loops, no links, no trees, no slots.

It says what the real table must say. An entry is known by its generation, its number in the order
of arrival.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from replay_chunks import FRAME_SHAPE, Entry

from replay.ring import TableSpec


@dataclass
class ModelSuccessors:
    """What an n-step return needs of one transition."""

    rewards: list[float]
    discounts: list[float]
    bootstrap: np.ndarray | None
    """None where the return ended."""


class SlowTable:
    """The last `capacity` entries, and what can be told from them."""

    def __init__(self, spec: TableSpec, *, priority_exponent: float) -> None:
        """An empty table."""
        self.spec = spec
        self.exponent = priority_exponent
        self.history: list[Entry] = []
        self.priorities: list[float] = []
        self.times_sampled: list[int] = []
        self.overwritten_unsampled = 0
        self.stale_updates = 0

    def held(self) -> range:
        """Generations that are still here."""
        return range(max(0, len(self.history) - self.spec.capacity), len(self.history))

    def add(self, entries: Sequence[Entry]) -> None:
        """Store entries in this order."""
        ready_before = self.ready()
        for entry in entries:
            self.history.append(entry)
            self.priorities.append(entry.priority)
            self.times_sampled.append(0)
        lost = set(ready_before) - set(self.ready())
        self.overwritten_unsampled += sum(self.times_sampled[g] == 0 for g in lost)

    def _find(self, stream: int, step: int) -> int | None:
        for generation in self.held():
            entry = self.history[generation]
            if (entry.stream, entry.step) == (stream, step):
                return generation
        return None

    def before(self, generation: int) -> int | None:
        """The step before, in the same episode, if it is here."""
        entry = self.history[generation]
        return None if entry.is_first else self._find(entry.stream, entry.step - 1)

    def after(self, generation: int) -> int | None:
        """The step after, in the same episode, if it is here."""
        entry = self.history[generation]
        found = self._find(entry.stream, entry.step + 1)
        return None if found is None or self.history[found].is_first else found

    def observation(self, generation: int) -> np.ndarray | None:
        """uint8 [S*C, H, W]; None if a frame of it is missing."""
        frames = [self.history[generation].frame]
        current = generation
        while len(frames) < self.spec.num_stack:
            if self.history[current].is_first:
                frames.insert(0, np.zeros(FRAME_SHAPE, np.uint8))
                continue
            previous = self.before(current)
            if previous is None:
                return None
            current = previous
            frames.insert(0, self.history[current].frame)
        return np.concatenate(frames)

    def successors(self, generation: int) -> ModelSuccessors | None:
        """The next n steps; None if one that is needed is missing."""
        rewards: list[float] = []
        discounts: list[float] = []
        current = generation
        while len(rewards) < self.spec.num_successors:
            entry = self.history[current]
            if not entry.is_transition:
                break
            rewards.append(entry.reward)
            discounts.append(entry.discount)
            if entry.discount == 0:
                return ModelSuccessors(rewards, discounts, None)
            following = self.after(current)
            if following is None:
                return None
            current = following
        return ModelSuccessors(rewards, discounts, self.observation(current))

    def ready(self) -> list[int]:
        """Generations that can be drawn."""
        return [
            generation
            for generation in self.held()
            if self.history[generation].is_transition
            and self.observation(generation) is not None
            and self.successors(generation) is not None
        ]

    def weight(self, generation: int) -> float:
        """Priority to the power of the exponent."""
        return max(float(np.float32(self.priorities[generation])), 1e-6) ** self.exponent

    def inverse_probability(self, generation: int) -> float:
        """1 / (N * P)."""
        ready = self.ready()
        total = sum(self.weight(g) for g in ready)
        return total / (len(ready) * self.weight(generation))

    def update_priority(self, generation: int, priority: float) -> None:
        """Of a transition that was drawn once."""
        if generation in self.ready():
            self.priorities[generation] = priority
        else:
            self.stale_updates += 1
