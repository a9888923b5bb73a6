"""Replay in this process: batches per second against copying as many bytes.

    bound = samples / (time of memcpy for the bytes of those samples)

The tables are full, so the frames of a batch come from all over memory. Nothing waits: the pace of
inserting and sampling is off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from launch.benchmarks.bench_setup import BenchSetup, EndlessPlay, without_pacing
from launch.benchmarks.bench_timing import Result, Window, measure_rounds, medians, timed
from launch.recipe import build_shard
from replay.shard import ReplayShard
from replay.types import Chunk, PriorityUpdate, SampleBatch

_BATCHES = 8
"""Batches in one window."""
_CHUNKS = 8
"""Chunks in one window, and in one go while filling."""
_COPY_SOURCE_BYTES = 256 * 2**20
"""Larger than caches, like the tables."""


def run(setup: BenchSetup) -> Result:
    """Insert, sample and update in turn."""
    recipe = without_pacing(setup.recipe)
    shard = build_shard(recipe)
    play = [EndlessPlay(recipe, game, serial=n) for n, game in enumerate(recipe.games)]
    _fill(shard, play, entries=len(recipe.games) * recipe.config.replay.capacity_per_game)
    replay = _Replay(shard, play, np.random.default_rng(recipe.config.seed))
    rounds = measure_rounds(
        {
            "insert": replay.insert,
            "sample": replay.sample,
            "copy": replay.copy,
            "update": replay.update,
        },
        seconds=setup.options.measuring_s,
    )
    shard.check_valid()
    seconds = medians(rounds)
    specs = [recipe.table_spec(game, 1) for game in recipe.games]
    return Result(
        measured=1 / seconds["sample"],
        bound=1 / seconds["copy"],
        unit="samples/s",
        target=None,
        parts={
            "inserts_per_s": 1 / seconds["insert"],
            "samples_per_s": 1 / seconds["sample"],
            "updates_per_s": 1 / seconds["update"],
            "copied_bytes_per_s": replay.bytes_per_sample / seconds["copy"],
            "bytes_per_transition": sum(spec.bytes_per_entry for spec in specs) / len(specs),
            "bytes_per_sample": replay.bytes_per_sample,
        },
        rounds=len(rounds["sample"]),
        settings={"capacity_per_game": recipe.config.replay.capacity_per_game},
    )


def _fill(shard: ReplayShard, play: list[EndlessPlay], *, entries: int) -> None:
    """Until every table has begun to overwrite."""
    stored = 0
    while stored < 1.1 * entries:
        for chunk in _take(play, _CHUNKS):
            shard.add(chunk)
            stored += chunk.num_entries


def _take(play: list[EndlessPlay], count: int) -> list[Chunk]:
    """As many chunks of each game."""
    return [game.take() for _ in range(count) for game in play]


class _Replay:
    """The operations, each on what the one before has left."""

    def __init__(
        self, shard: ReplayShard, play: list[EndlessPlay], rng: np.random.Generator
    ) -> None:
        self._shard = shard
        self._play = play
        self._rng = rng
        batch = self._draw()
        self._keys = [batch.keys]
        self._batch_size = batch.batch_size
        self.bytes_per_sample = _num_bytes(batch) / batch.batch_size
        self._source = rng.integers(0, 256, _COPY_SOURCE_BYTES, np.uint8)
        self._target = np.empty(_num_bytes(batch), np.uint8)

    def insert(self) -> Window:
        """Chunks of all games."""
        chunks = _take(self._play, _CHUNKS)
        return timed(
            lambda: [self._shard.add(chunk) for chunk in chunks],
            sum(chunk.num_transitions for chunk in chunks),
        )

    def sample(self) -> Window:
        """Whole batches; each is gone before the next, as when it is sent away."""
        self._keys = []

        def draw() -> None:
            for _ in range(_BATCHES):
                self._keys.append(self._draw().keys)

        return timed(draw, _BATCHES * self._batch_size)

    def copy(self) -> Window:
        """The bytes of as many batches, each in one piece."""
        starts = self._rng.integers(0, len(self._source) - len(self._target), _BATCHES)

        def copy() -> None:
            for start in starts:
                np.copyto(self._target, self._source[start : start + len(self._target)])

        return timed(copy, _BATCHES * self._batch_size)

    def update(self) -> Window:
        """New priorities for the transitions that were drawn."""
        updates = [
            PriorityUpdate(keys=keys, priorities=self._rng.random(self._batch_size, np.float32))
            for keys in self._keys
        ]

        def send() -> None:
            for update in updates:
                self._shard.update_priorities(update)

        return timed(send, len(updates) * self._batch_size)

    def _draw(self) -> SampleBatch:
        batch = self._shard.sample()
        assert batch is not None  # Nothing paces this shard.
        return batch


def _num_bytes(batch: SampleBatch) -> int:
    return sum(array.nbytes for array in _arrays(batch))


def _arrays(value: object) -> Iterator[np.ndarray[Any, Any]]:
    """All arrays of nested dataclasses."""
    if isinstance(value, np.ndarray):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from _arrays(getattr(value, field.name))
