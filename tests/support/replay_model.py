"""A slow replay table in plain Python: lists and loops, no links, no trees, no slots.

It says what the real table must say. An entry is known by its generation, its number in the order
of arrival; some numbers are left out when a table goes on from an older state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from replay_chunks import FRAME_SHAPE, Entry
from sampler_cases import expected
from slow_samplers import Item

from replay.storage.ring import TableSpec


@dataclass
class ModelSuccessors:
    """What an n-step return needs of one transition."""

    rewards: list[float]
    discounts: list[float]
    bootstrap: np.ndarray | None
    """None where the return ended."""


class SlowTable:
    """The last `capacity` entries, and what can be told from them."""

    def __init__(self, spec: TableSpec, *, sampler: str = "proportional") -> None:
        self.spec = spec
        self.sampler = sampler
        self._held: list[int] = []
        self._generations: dict[tuple[int, int], int] = {}
        self.num_added = 0
        """Generation of the next entry."""
        self.history: dict[int, Entry] = {}
        """All that ever came, by generation; so the next two."""
        self.priorities: dict[int, float] = {}
        self.times_sampled: dict[int, int] = {}
        self.overwritten_unsampled = 0
        self.stale_priorities = 0

    def held(self) -> list[int]:
        return self._held

    def resize(self, capacity: int) -> None:
        """Keep the newest entries; what is gone does not come back in a larger table."""
        ready_before = self.ready()
        self._keep(capacity)
        self._count_lost(ready_before)

    def _keep(self, capacity: int) -> None:
        self._held = self._held[-capacity:]
        self.spec = replace(self.spec, capacity=capacity)

    def go_on(self, *, num_added: int, capacity: int) -> None:
        """Be what a table of `capacity` is that begins from this state, later.

        Generations below `num_added` were given out since and never come again.
        """
        self._keep(capacity)
        self.num_added = num_added

    def add(self, entries: Sequence[Entry]) -> None:
        ready_before = self.ready()
        for generation, entry in enumerate(entries, start=self.num_added):
            self._generations[entry.stream, entry.step] = generation
            self._held.append(generation)
            self.history[generation] = entry
            self.priorities[generation] = entry.priority
            self.times_sampled[generation] = 0
        self.num_added += len(entries)
        self._held = self._held[-self.spec.capacity :]
        self._count_lost(ready_before)

    def _count_lost(self, ready_before: Sequence[int]) -> None:
        lost = set(ready_before) - set(self.ready())
        self.overwritten_unsampled += sum(self.times_sampled[g] == 0 for g in lost)

    def _find(self, stream: int, step: int) -> int | None:
        generation = self._generations.get((stream, step), -1)
        return generation if generation in self.held() else None

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

    def successors(self, generation: int, num_steps: int) -> ModelSuccessors | None:
        """The next `num_steps` steps; None if one that is needed is missing."""
        rewards: list[float] = []
        discounts: list[float] = []
        current = generation
        while len(rewards) < num_steps:
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
        return [
            generation
            for generation in self.held()
            if self.history[generation].is_transition
            and self.observation(generation) is not None
            and self.successors(generation, self.spec.num_following) is not None
        ]

    def sequence(self, generation: int, length: int) -> tuple[list[int], int | None]:
        """(steps from one on that is ready; what follows the last of them)."""
        steps: list[int] = []
        current: int | None = generation
        while current is not None and self.history[current].is_transition and len(steps) < length:
            steps.append(current)
            current = self.after(current)
        return steps, current

    def inverse_probabilities(self, edges: Sequence[float]) -> dict[int, float]:
        """1 / (N * P), as the importance weights use it, of all that can be drawn."""
        ready = self.ready()
        items = [
            Item(priority=float(np.float32(self.priorities[g])), value=self.history[g].serial + 0.5)
            for g in ready
        ]
        _, inverse = expected(self.sampler, items, edges)
        return dict(zip(ready, inverse, strict=True))

    def inverse_probability(self, generation: int) -> float:
        """1 / (N * P), of a sampler without partitions."""
        return self.inverse_probabilities([])[generation]

    def update_priority(self, generation: int, priority: float) -> None:
        if generation in self.ready():
            self.priorities[generation] = priority
        else:
            self.stale_priorities += 1
