"""Replay in one process: what a shard does without anyone to talk to."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from benchmarks.memory import Memcpy, num_bytes
from benchmarks.replay.figures import figures_of, measure_operations
from benchmarks.replay.play import RecordedPlay
from benchmarks.setup import copy_source_bytes
from benchmarks.timing import Window, repeat_for
from recipes.recipe import Recipe
from recipes.roles import build_shard
from replay.channel.batch_channel import with_own_keys
from replay.types import ItemKeys, PriorityUpdate, SampleBatch


def measure_in_process(recipe: Recipe, recorded: RecordedPlay, *, seconds: float) -> dict[str, Any]:
    """Insert, sample, update and copy in turn, all in this process."""
    replay = LocalReplay(recipe, recorded, rank=0)
    rounds = measure_operations(replay.window, seconds=seconds)
    replay.check_valid()
    return figures_of(rounds, bytes_per_sample=replay.bytes_per_sample)


class LocalReplay:
    """A full shard and the operations on it, each on what the one before has left."""

    def __init__(self, recipe: Recipe, recorded: RecordedPlay, *, rank: int) -> None:
        """Fill the tables until they have begun to overwrite."""
        config = recipe.config.replay
        self._shard = build_shard(recipe, shard=rank)
        self._play = recorded.endless(rank)
        self._rng = np.random.default_rng([recipe.config.seed, rank])
        capacity = -(-config.capacity_per_game // config.num_shards) * len(recipe.games)
        stored = 0
        while stored < 1.1 * capacity:
            stored += self._insert()
        self._keys: deque[ItemKeys] = deque(maxlen=64)
        self._sample()
        batch = self._draw()
        self.bytes_per_sample = num_bytes(batch) / batch.batch_size
        self._copy = Memcpy(
            # As much as this shard holds.
            source_bytes=copy_source_bytes(recipe) // config.num_shards,
            piece_bytes=num_bytes(batch),
            rng=self._rng,
        )

    def window(self, operation: str, seconds: float) -> Window:
        """Insert, sample, update or copy for about this long."""
        work = {
            "insert": self._insert,
            "sample": self._sample,
            "update": self._update,
            "copy": self._copy.run,
        }
        return repeat_for(work[operation], seconds)

    def check_valid(self) -> None:
        """Raises ValueError if the tables have come to harm."""
        self._shard.check_valid()

    def _insert(self) -> int:
        chunk = next(self._play)
        assert self._shard.add(chunk)  # Nothing paces this shard.
        return chunk.num_transitions

    def _sample(self) -> int:
        # The batch is gone before the next, as when it is sent away.
        batch = self._draw()
        self._keys.append(with_own_keys(batch).keys)
        return batch.batch_size

    def _update(self) -> int:
        self._keys.rotate(1)
        keys = self._keys[0]
        priorities = self._rng.random(len(keys.generations), np.float32)
        self._shard.update_priorities(PriorityUpdate(keys=keys, priorities=priorities))
        return len(priorities)

    def _draw(self) -> SampleBatch:
        batch = self._shard.sample()
        assert batch is not None  # Nothing paces this shard.
        return batch
