"""Replay in one process: what a shard does without anyone to talk to."""

from __future__ import annotations

from collections import deque

import numpy as np

from benchmarks.arrays import num_bytes
from benchmarks.memcpy import Memcpy, copy_source_bytes
from benchmarks.replay.figures import ReplayFigures, rates_of
from benchmarks.replay.play import PlayStreams, RecordedPlay
from benchmarks.timing import WINDOW_S, Window, measure_rounds, repeat_for
from recipes.recipe import Recipe
from recipes.roles import build_shard
from replay.channel.batch_channel import with_own_keys
from replay.types import ItemKeys, PriorityUpdate, SampleBatch


def measure_in_process(recipe: Recipe, recorded: RecordedPlay, *, seconds: float) -> ReplayFigures:
    """Insert, sample, update and copy in turn, all in this process."""
    replay = LocalReplay(recipe, recorded, rank=0)
    copy = Memcpy(
        source_bytes=copy_source_bytes(recipe),
        piece_bytes=replay.bytes_per_batch,
        rng=np.random.default_rng(recipe.config.seed),
    )
    rounds = measure_rounds(
        {
            "copy": lambda: repeat_for(copy.run, WINDOW_S),
            "sample": lambda: replay.sample(WINDOW_S),
            "update": lambda: replay.update(WINDOW_S),
            "insert": lambda: replay.insert(WINDOW_S),
        },
        seconds=seconds,
    )
    replay.check_valid()
    return ReplayFigures(**rates_of(rounds), bytes_per_sample=replay.bytes_per_sample)


class LocalReplay:
    """A full shard and the operations on it, each on what the one before has left."""

    def __init__(self, recipe: Recipe, recorded: RecordedPlay, *, rank: int) -> None:
        """Fill the tables until they have begun to overwrite."""
        config = recipe.config.replay
        self._shard = build_shard(recipe, shard=rank)
        self._play: PlayStreams = recorded.streams_of(rank)
        self._rng = np.random.default_rng([recipe.config.seed, rank])
        capacity = -(-config.capacity_per_game // config.num_shards) * len(recipe.games)
        stored = 0
        while stored < 1.1 * capacity:
            stored += self._insert()
        self._keys: deque[ItemKeys] = deque(maxlen=64)
        batch = self._draw()
        self._keys.append(with_own_keys(batch).keys)
        self.bytes_per_batch = num_bytes(batch)
        self.bytes_per_sample = self.bytes_per_batch / batch.batch_size

    def insert(self, seconds: float) -> Window:
        """Store chunks for about this long."""
        return repeat_for(self._insert, seconds)

    def sample(self, seconds: float) -> Window:
        """Draw batches; each is gone before the next, as when it is sent away."""
        return repeat_for(self._sample, seconds)

    def update(self, seconds: float) -> Window:
        """New priorities for the transitions that were drawn last."""
        return repeat_for(self._update, seconds)

    def check_valid(self) -> None:
        """Raises ValueError if the tables have come to harm."""
        self._shard.check_valid()

    def _insert(self) -> int:
        chunk = self._play.take()
        assert self._shard.add(chunk)  # Nothing paces this shard.
        return chunk.num_transitions

    def _sample(self) -> int:
        batch = self._draw()
        self._keys.append(with_own_keys(batch).keys)
        return batch.batch_size

    def _update(self) -> int:
        self._keys.rotate(1)
        keys = self._keys[0]
        priorities = self._rng.random(len(keys.slots), np.float32)
        self._shard.update_priorities(PriorityUpdate(keys=keys, priorities=priorities))
        return len(priorities)

    def _draw(self) -> SampleBatch:
        batch = self._shard.sample()
        assert batch is not None  # Nothing paces this shard.
        return batch
