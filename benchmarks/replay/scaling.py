"""Two shards against one: does a second shard on a second core double what replay gives?

Measured twice. In the shards alone, each drawing and storing in its own process with nobody to
talk to: with a core for each that is what shards scale to, and what the target is held against.
memcpy in the same processes says what the machine itself scales to, whose cores may share caches,
a memory bus and, under a hypervisor, each other. And through the clients, as in
benchmarks/replay/replay.py: one reader takes batches of both shards in turn, and a writer feeds
each. Three or four busy processes on two cores cannot come to twice of what two or three do there,
so that one is only reported.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import ray

from benchmarks.memcpy import Memcpy, copy_source_bytes
from benchmarks.replay.local import LocalReplay
from benchmarks.replay.play import RecordedPlay
from benchmarks.replay.process import (
    CALL_TIMEOUT_S,
    ReplayProcesses,
    add_windows,
    replay_processes,
)
from benchmarks.timing import (
    WINDOW_S,
    Window,
    measure_rounds,
    ratios,
    repeat_for,
    short,
)
from recipes.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Two shards over one, each 2 at best."""

    # Two shards over one, drawing in their own processes.
    alone_samples_ratio: float
    alone_inserts_ratio: float
    # The same of memcpy of a batch's bytes: what this machine's memory scales to.
    alone_memcpy_ratio: float
    # Two shards over one, read by one reader for both.
    through_clients_samples_ratio: float
    # Two shards over one, fed by a writer each.
    through_clients_inserts_ratio: float

    @property
    def ratio(self) -> float:
        """The smaller of the two without clients."""
        return min(self.alone_samples_ratio, self.alone_inserts_ratio)

    def report(self) -> dict[str, float]:
        """The figures as they stand in the line of JSON."""
        return {name: short(value) for name, value in asdict(self).items()}


def measure_scaling(recipe: Recipe, recorded: RecordedPlay, *, seconds: float) -> Scaling:
    """One shard and two side by side, in turn, so that both meet the same machine."""
    two = on_two_shards(recipe)
    with (
        replay_processes(recipe, recorded) as one_shard,
        replay_processes(two, recorded) as two_shards,
    ):
        for processes in (one_shard, two_shards):
            processes.fill(int(1.1 * recipe.config.replay.capacity_per_game * len(recipe.games)))
        clients = compare(one_shard, two_shards, ("insert", "sample"), seconds=seconds)
    with _shards_alone(recipe, recorded) as one, _shards_alone(two, recorded) as both:
        alone = compare(one, both, ("insert", "sample", "copy"), seconds=1.5 * seconds)
    return Scaling(
        alone_samples_ratio=alone["sample"],
        alone_inserts_ratio=alone["insert"],
        alone_memcpy_ratio=alone["copy"],
        through_clients_samples_ratio=clients["sample"],
        through_clients_inserts_ratio=clients["insert"],
    )


def on_two_shards(recipe: Recipe) -> Recipe:
    """Spread the same capacity over two shards, with an actor of every game for each."""
    config = recipe.config
    return Recipe(replace(config, actors=("2",), replay=replace(config.replay, num_shards=2)))


class _ShardAlone:
    """A shard's own work in a process of its own, and nothing else."""

    def __init__(self, recipe: Recipe, recorded: RecordedPlay, *, rank: int) -> None:
        self._replay = LocalReplay(recipe, recorded, rank=rank)
        self._copy = Memcpy(
            # As much as this shard holds.
            source_bytes=copy_source_bytes(recipe) // recipe.config.replay.num_shards,
            piece_bytes=self._replay.bytes_per_batch,
            rng=np.random.default_rng([recipe.config.seed, rank]),
        )

    def insert(self, seconds: float) -> Window:
        return self._replay.insert(seconds)

    def sample(self, seconds: float) -> Window:
        return self._replay.sample(seconds)

    def copy(self, seconds: float) -> Window:
        return repeat_for(self._copy.run, seconds)


@dataclass(frozen=True, slots=True)
class _ShardsAlone:
    """Handles of as many of them; each call runs in all at once."""

    shards: list[Any]

    def insert(self, seconds: float) -> Window:
        return add_windows(_get([shard.insert.remote(seconds) for shard in self.shards]))

    def sample(self, seconds: float) -> Window:
        return add_windows(_get([shard.sample.remote(seconds) for shard in self.shards]))

    def copy(self, seconds: float) -> Window:
        return add_windows(_get([shard.copy.remote(seconds) for shard in self.shards]))


@contextmanager
def _shards_alone(recipe: Recipe, recorded: RecordedPlay) -> Iterator[_ShardsAlone]:
    play = ray.put(recorded)
    num_shards = recipe.config.replay.num_shards
    shards = [_RemoteShardAlone.remote(recipe, play, rank=rank) for rank in range(num_shards)]
    try:
        yield _ShardsAlone(shards)
    finally:
        for shard in shards:
            ray.kill(shard)


def compare(
    one: ReplayProcesses | _ShardsAlone,
    two: ReplayProcesses | _ShardsAlone,
    names: Sequence[str],
    *,
    seconds: float,
) -> dict[str, float]:
    """Rate of `two` over that of `one`, of each of these operations: the median over the rounds."""
    rounds = measure_rounds(
        {
            f"{name} {which}": partial(getattr(processes, name), WINDOW_S)
            for name in names
            for which, processes in (("one", one), ("two", two))
        },
        seconds=seconds,
    )
    return {name: statistics.median(ratios(rounds, f"{name} one", f"{name} two")) for name in names}


def _get(references: list[Any]) -> list[Any]:
    answers: list[Any] = ray.get(references, timeout=CALL_TIMEOUT_S)
    return answers


_remote: Any = ray.remote
_RemoteShardAlone = _remote(num_cpus=0)(_ShardAlone)
