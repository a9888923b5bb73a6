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
from dataclasses import replace
from functools import partial
from typing import Any

import ray

from benchmarks.replay.figures import Operate
from benchmarks.replay.local import LocalReplay
from benchmarks.replay.play import RecordedPlay
from benchmarks.replay.process import add_windows, replay_processes, wait_for
from benchmarks.timing import WINDOW_S, Window, measure_rounds, ratios, short
from recipes.recipe import Recipe


def measure_scaling(recipe: Recipe, recorded: RecordedPlay, *, seconds: float) -> dict[str, float]:
    """Rates of two shards over those of one, each 2 at best.

    One and two are measured side by side, in turn, so that both meet the same machine.

    Returns:
        By name, `alone_` for shards in their own processes and `through_clients_` otherwise.
    """
    two = on_two_shards(recipe)
    with (
        replay_processes(recipe, recorded) as one_shard,
        replay_processes(two, recorded) as two_shards,
    ):
        for processes in (one_shard, two_shards):
            processes.fill(int(1.1 * recipe.config.replay.capacity_per_game * len(recipe.games)))
        clients = compare(
            one_shard.window, two_shards.window, ("insert", "sample"), seconds=seconds
        )
    with _shards_alone(recipe, recorded) as one, _shards_alone(two, recorded) as both:
        alone = compare(one, both, ("insert", "sample", "copy"), seconds=1.5 * seconds)
    found = {
        "alone_samples_ratio": alone["sample"],
        "alone_inserts_ratio": alone["insert"],
        # What this machine's memory scales to, by pieces of a batch's bytes.
        "alone_memcpy_ratio": alone["copy"],
        # One reader for both shards, and a writer for each.
        "through_clients_samples_ratio": clients["sample"],
        "through_clients_inserts_ratio": clients["insert"],
    }
    return {name: short(value) for name, value in found.items()}


def on_two_shards(recipe: Recipe) -> Recipe:
    """Spread the same capacity over two shards, with an actor of every game for each."""
    config = recipe.config
    return Recipe(replace(config, actors=("2",), replay=replace(config.replay, num_shards=2)))


@contextmanager
def _shards_alone(recipe: Recipe, recorded: RecordedPlay) -> Iterator[Operate]:
    """Shards in processes of their own and nothing else; each operation runs in all at once."""
    play = ray.put(recorded)
    num_shards = recipe.config.replay.num_shards
    shards = [_RemoteReplay.remote(recipe, play, rank=rank) for rank in range(num_shards)]

    def window(operation: str, seconds: float) -> Window:
        return add_windows(wait_for([s.window.remote(operation, seconds) for s in shards]))

    try:
        yield window
    finally:
        for shard in shards:
            ray.kill(shard)


def compare(
    one: Operate, two: Operate, names: Sequence[str], *, seconds: float
) -> dict[str, float]:
    """Rate of `two` over that of `one`, of each of these operations: the median over the rounds."""
    rounds = measure_rounds(
        {
            f"{name} {which}": partial(operate, name, WINDOW_S)
            for name in names
            for which, operate in (("one", one), ("two", two))
        },
        seconds=seconds,
    )
    return {name: statistics.median(ratios(rounds, f"{name} one", f"{name} two")) for name in names}


_remote: Any = ray.remote
_RemoteReplay = _remote(num_cpus=0)(LocalReplay)
