"""Replay as in production, in one process, compressed, on two shards, and beside other libraries.

    memcpy_ratio = bytes of the batches that reach the reader's process in a second
                   / bytes that memcpy copies there in a second

One shard process, one writer and one reader, each in a process of its own; inserting, sampling,
updating and copying are timed one at a time, in turn, and the median over the rounds counts; the
ratio is formed in every round, of windows next to each other. The tables are full, so the frames of
a batch come from all over memory. Nothing waits: the pace of inserting and sampling is off.
"""

from __future__ import annotations

import gc
import sys
from dataclasses import replace
from typing import Any

from benchmarks.replay.figures import (
    figures_of,
    format_table,
    format_targets,
    judge,
    measure_operations,
)
from benchmarks.replay.local import measure_in_process
from benchmarks.replay.peers import PeerResults, measure_peers
from benchmarks.replay.play import RecordedPlay, record_play
from benchmarks.replay.process import ReplayProcesses, replay_processes
from benchmarks.replay.scaling import measure_scaling
from benchmarks.setup import BenchSetup, copy_source_bytes, without_pacing
from benchmarks.timing import Result
from engines.on_ray.session import ray_session
from recipes.recipe import Recipe


def run(setup: BenchSetup) -> Result:
    """Measure every way of having a replay, one after the other."""
    recipe = without_pacing(setup.recipe)
    seconds = setup.options.measuring_s
    _announce("playing")
    recorded = record_play(recipe)
    _announce("in one process")
    in_process = measure_in_process(recipe, recorded, seconds=seconds / 2)
    gc.collect()
    with ray_session(recipe):
        _announce("from other processes")
        ours = measure_processes(recipe, recorded, seconds=seconds)
        _announce("compressed")
        compressed = _measure_compressed(recipe, recorded, seconds=seconds / 2)
        _announce("two shards")
        scaling = measure_scaling(recipe, recorded, seconds=seconds / 2)
    _announce("other libraries")
    capacity = recipe.config.replay.capacity_per_game * len(recipe.games)
    peers = measure_peers(
        recorded,
        setup.options.peers_python,
        capacity=capacity,
        batch_size=recipe.config.replay.batch_size,
        memcpy_source_bytes=copy_source_bytes(recipe),
        seconds=seconds / 2,
    )
    further: dict[str, Any] = {
        **ours,
        "in_process": in_process,
        "compressed": compressed,
        "two_shards_ratio": min(scaling["alone_samples_ratio"], scaling["alone_inserts_ratio"]),
        "two_shards": scaling,
        "peers": peers.figures,
        "peers_missing": peers.reasons,
    }
    further["targets"] = judge(further)
    return Result(
        measured=ours["samples_per_second"],
        bound=ours["samples_per_second"] / ours["memcpy_ratio"],
        unit="samples/s",
        target=0.4,
        parts={},
        rounds=ours["rounds"],
        further=further,
        table=_format(further, peers),
        settings=replay_settings(recipe, recorded),
    )


def _announce(part: str) -> None:
    """Say what goes on, to whoever waits; all in all it takes minutes."""
    print(f"replay: {part}", file=sys.stderr, flush=True)


def replay_settings(recipe: Recipe, recorded: RecordedPlay) -> dict[str, Any]:
    """What the benchmarks of replay have besides the settings that all have."""
    config = recipe.config.replay
    return {
        "capacity": config.capacity_per_game * len(recipe.games),
        "sampler": config.sampler,
        "num_batch_slots": config.num_batch_slots,
        "entries_per_chunk": recorded.entries_per_chunk(),
        "bytes_per_chunk": recorded.bytes_per_chunk(),
        "num_teacher_features": recipe.table_spec(recipe.games[0], 1).entry.num_teacher_features,
        "players": recorded.players,
        "memcpy_source_bytes": copy_source_bytes(recipe),
    }


def measure_processes(recipe: Recipe, recorded: RecordedPlay, *, seconds: float) -> dict[str, Any]:
    """A shard with its writer and its reader, in three processes."""
    with replay_processes(recipe, recorded) as processes:
        resident_bytes = fill_and_weigh(
            processes, capacity=recipe.config.replay.capacity_per_game * len(recipe.games)
        )
        counted_bytes = processes.counted_bytes_per_entry()
        bytes_per_sample = processes.bytes_per_sample()
        rounds = measure_operations(processes.window, seconds=seconds)
        processes.check_valid()
    return figures_of(
        rounds,
        bytes_per_sample=bytes_per_sample,
        resident_bytes=resident_bytes,
        counted_bytes=counted_bytes,
    )


def fill_and_weigh(processes: ReplayProcesses, *, capacity: int) -> float:
    """Fill the tables until they overwrite; returns the memory that one more transition took.

    The first tenth is not weighed: with it come buffers that are there once.
    """
    stored = processes.fill(capacity // 10)
    processes.bytes_per_sample()
    before = sum(reading.own_bytes for reading in processes.read_shards())
    processes.fill(capacity - stored)
    after = sum(reading.own_bytes for reading in processes.read_shards())
    processes.fill(capacity // 10)
    return (after - before) / (capacity - stored)


def _measure_compressed(
    recipe: Recipe, recorded: RecordedPlay, *, seconds: float
) -> dict[str, Any]:
    """Measure a shard that compresses its frames."""
    config = recipe.config
    compressed = replace(config, replay=replace(config.replay, compression="lz4"))
    return measure_processes(Recipe(compressed), recorded, seconds=seconds)


def _format(report: dict[str, Any], peers: PeerResults) -> str:
    rows = [
        ("ours, from other processes", report),
        ("  compressed", report["compressed"]),
        ("ours, in one process", report["in_process"]),
    ]
    rows += [(_describe_peer(name, peers), peers.figures[name]) for name in peers.figures]
    reasons = [f"{name} was not measured: {why}" for name, why in peers.reasons.items()]
    return "\n".join([format_table(rows), *reasons, "", format_targets(report["targets"]), ""])


def _describe_peer(name: str, peers: PeerResults) -> str:
    figures = peers.figures[name]
    if figures is None:
        return name
    return f"{name} {figures['version']}, {figures['where'].split(',')[0]}"
