"""Runs of made-up games on Ray: small engines whose shards show all that they hold.

Importing this module registers the counting and the signal games. Ray's workers import it, too:
a recipe from here brings them the games.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import counting
import numpy as np
import pytest
import ray
import signals
import torch
from counting import SCHEDULES, read_tags
from counting_checks import Stream, check_stream
from numpy.typing import NDArray
from runs import pids_of, ray_environment, save_random_expert, wait_until

from actors.config import ActorConfig
from engines.on_ray.calls import CONTROL_GROUP, RUN_GROUP, SHARD_GROUPS
from engines.on_ray.cluster import ShardProcess
from engines.on_ray.engine import RayEngine
from engines.on_ray.learner_process import LearnerProcess
from engines.on_redis.bus import RedisAddress
from learner.config import LearnerConfig
from networks.config import NetworkConfig
from recipes.config import RunConfig
from recipes.recipe import Recipe
from records.progress import Progress
from replay.config import ReplayConfig
from replay.types import STREAMS_PER_ACTOR_BITS

assert counting.SCHEDULES
assert signals.GAMES

_COLUMNS = (
    "frames",
    "actions",
    "rewards",
    "discounts",
    "epsilons",
    "student_logits",
    "teacher_logits",
    "teacher_features",
    "teacher_values",
    "priorities",
    "is_first",
    "is_transition",
)


@dataclass(frozen=True, slots=True)
class MadeUpRecipe(Recipe):
    """Wherever it is unpacked, the made-up games are known."""


@dataclass(frozen=True, slots=True)
class TableDump:
    """All entries of one game in one shard, in the order in which they were stored."""

    game: str
    shard: int
    columns: dict[str, NDArray[Any]]
    streams: NDArray[np.int64]
    steps: NDArray[np.int64]
    versions: NDArray[np.int64]
    num_inserted: int
    """Transitions ever stored."""


class OpenShard(ShardProcess):
    def __init__(self, recipe: Recipe, shard: int, **options: Any) -> None:
        super().__init__(recipe, shard, **options)
        self._number = shard

    def dump(self) -> list[TableDump]:
        shard = self._shard
        with shard._condition:
            return [self._dump_table(table) for table in shard._tables]

    def _dump_table(self, table: Any) -> TableDump:
        ring = table.ring
        stored = ring.columns(ring.held_slots())
        return TableDump(
            game=table.spec.game,
            shard=self._number,
            columns={name: stored[name] for name in (*_COLUMNS, *table.spec.entry.extra_columns)},
            streams=stored["streams"],
            steps=stored["steps"],
            versions=stored["weights_versions"],
            num_inserted=table.counts.inserted,
        )


RemoteOpenShard: Any = ray.remote(  # type: ignore[call-overload]
    num_cpus=1,
    max_restarts=-1,
    concurrency_groups=SHARD_GROUPS,
)(OpenShard)


class OpenLearner(LearnerProcess):
    """A learner that says how its batches come."""

    def num_mapped(self) -> int:
        """Shards whose batches come through shared memory; the others' through the object store."""
        return self._replay.num_mapped


RemoteOpenLearner: Any = ray.remote(  # type: ignore[call-overload]
    num_cpus=1,
    concurrency_groups={RUN_GROUP: 1, CONTROL_GROUP: 2},
)(OpenLearner)


COUNTING = (counting.CALM_CUTS.name, counting.CALM_LIVES.name)


def counting_config(folder: Path, *, replay: Mapping[str, Any] = {}, **settings: Any) -> RunConfig:
    """Two counting games, one actor each, a shard that forgets nothing; teachers in `folder`."""
    teachers = [f"{game}={save_random_expert(folder, game, torso='minatar')}" for game in COUNTING]
    defaults: dict[str, Any] = {
        "teachers": tuple(teachers),
        "num_steps": 4_000,
        "actor": ActorConfig(num_envs=3, chunk_steps=7),
        "learner": LearnerConfig(publish_period=5),
        "network": NetworkConfig(torso="minatar"),
    }
    pace: dict[str, Any] = {
        "batch_size": 32,
        "capacity_per_game": 60_000,
        "min_size_per_game": 100,
        "samples_per_insert": 2.0,
        "samples_per_insert_cap": 8.0,
        "error_buffer": 200.0,
    }
    replay_config = ReplayConfig(**(pace | dict(replay)))
    return RunConfig(games=COUNTING, replay=replay_config, **(defaults | settings))


@contextmanager
def started(
    config: RunConfig, url: str, *, name: str, notes: list[str] | None = None, **options: Any
) -> Iterator[RayEngine]:
    """An engine whose shards are open, closed at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engines.on_ray.shard_fleet.RemoteShard", RemoteOpenShard)
        engine = RayEngine(
            MadeUpRecipe(config),
            redis=RedisAddress(url, name),
            device=torch.device("cpu"),
            note=(lambda text: None) if notes is None else notes.append,
            **options,
        )
        try:
            yield engine
        finally:
            engine.close()


@contextmanager
def private_ray(num_cpus: int) -> Iterator[None]:
    """A Ray that nobody else uses and that leaves no process behind."""
    with (
        # Not under pytest's folder: the paths of Ray's sockets would be too long.
        tempfile.TemporaryDirectory(prefix="amt", ignore_cleanup_errors=True) as scratch,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in ray_environment(Path(scratch)).items():
            patch.setenv(name, value)
        patch.delenv("RAY_ADDRESS", raising=False)
        try:
            _start_ray(num_cpus, scratch)
            yield
        finally:
            ray.shutdown()
            wait_until(
                lambda: not pids_of(Path(scratch)), timeout_s=30.0, what="Ray's processes are gone"
            )


def _start_ray(num_cpus: int, scratch: str) -> None:
    for tries_left in (1, 0):
        try:
            ray.init(
                address="local",
                num_cpus=num_cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=scratch,
            )
            return
        except Exception:
            # Ray gives up after half a minute, which may pass where others have the cores.
            if not tries_left:
                raise
            ray.shutdown()


class _Holder:
    def hold(self) -> None:
        """It does, as soon as it is there."""


@contextmanager
def cpus_taken(num_cpus: int) -> Iterator[Any]:
    """So many CPUs of Ray's are nobody else's until the end, or until what this gives is killed."""
    holder: Any = ray.remote(num_cpus=num_cpus)(_Holder).remote()
    ray.get(holder.hold.remote())
    try:
        yield holder
    finally:
        ray.kill(holder)


def drive(
    engine: RayEngine,
    until: Callable[[Progress], bool] = lambda progress: False,
    *,
    timeout_s: float = 120.0,
) -> Progress:
    """Go on until a condition holds, or to the end; the last look."""
    deadline = time.monotonic() + timeout_s
    while True:
        is_running = engine.advance(0.2)
        progress = engine.progress()
        if until(progress) or not is_running:
            return progress
        assert time.monotonic() < deadline, f"not there within {timeout_s} s: {progress}"


def dump_all(engine: RayEngine) -> list[TableDump]:
    answers = ray.get([shard.handle.dump.remote() for shard in engine._fleet.shards], timeout=60.0)
    return [table for tables in answers for table in tables]


def check_contents(tables: list[TableDump]) -> dict[int, Stream]:
    """The streams of counting games; AssertionError for anything lost, doubled or mixed up."""
    streams: dict[int, Stream] = {}
    seeds: dict[int, int] = {}
    games: dict[int, str] = {}
    for table in tables:
        assert np.count_nonzero(table.columns["is_transition"]) == table.num_inserted
        for number in np.unique(table.streams).tolist():
            assert number not in streams, "a stream is in two places"
            serial, env = number >> STREAMS_PER_ACTOR_BITS, number % (1 << STREAMS_PER_ACTOR_BITS)
            stream = streams[number] = _stream(table, number)
            seed = seeds.setdefault(serial, int(stream.tags.seed[0]))
            assert games.setdefault(serial, table.game) == table.game, "an actor plays two games"
            check_stream(
                stream,
                SCHEDULES[table.game],
                game=table.game,
                seed=seed,
                env=env,
                num_rows=int(stream.tags.clock[-1]) + 1,
                life_loss_ends_return=True,
            )
            assert (np.diff(stream.versions) >= 0).all(), "an actor went back to older weights"
    assert len(set(seeds.values())) == len(seeds), "two actors play the same"
    return streams


def _stream(table: TableDump, number: int) -> Stream:
    rows = table.streams == number
    steps = table.steps[rows]
    assert steps.tolist() == list(range(len(steps))), "steps are lost, doubled or out of order"
    columns = {name: column[rows] for name, column in table.columns.items()}
    return Stream(columns, table.versions[rows], read_tags(columns["frames"]))


def without_start(notes):
    """What a run has said besides how far its start had come, which depends on the machine."""
    starting = (" actors started", "all processes of the run are up", "not come up")
    return [line for line in notes if not any(words in line for words in starting)]
