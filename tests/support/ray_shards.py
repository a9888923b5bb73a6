"""Single replay shards of small tables on Ray, without a run around them."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayActorError
from replay_chunks import EpisodeWriter, chunk_of, make_spec
from runs import wait_until

from engines.on_ray.calls import SHARD_GROUPS, ask
from engines.on_ray.cluster import ShardProcess
from engines.on_ray.ray_internals import pid_of
from engines.on_ray.replay_reader import RayReplayReader
from replay.config import ReplayConfig
from replay.shard import ReplayShard
from replay.types import Chunk, SampleBatch

CALL_S = 30.0
"""Longer than anything takes that works."""


class SmallShard(ShardProcess):
    def __init__(
        self, shard: int, *, samples_per_insert: float = 1e-3, num_batch_slots: int = 3
    ) -> None:
        config = ReplayConfig(
            batch_size=8,
            min_size_per_game=8,
            samples_per_insert=samples_per_insert,
            samples_per_insert_cap=1e6,
            error_buffer=100.0 if samples_per_insert >= 1 else 1e9,
            capacity_per_game=2_000,
            num_batch_slots=num_batch_slots,
        )
        self._shard = ReplayShard(config, [make_spec(capacity=2_000)], shard=shard)
        self._keeper = None

    def columns(self) -> dict[str, np.ndarray]:
        """All entries, in the order in which they were stored."""
        with self._shard.locked() as parts:
            ring = parts.tables[0].ring
            return ring.columns(ring.held_slots())

    def num_channels(self) -> int:
        """Threads that serve a reader, or wait for one."""
        return sum(thread.name == "batches" for thread in threading.enumerate())

    def num_drawn(self) -> int:
        return self._shard.stats().tables["pong"].counts.sampled

    def num_descriptors(self) -> int:
        return len(os.listdir("/proc/self/fd"))

    def has_a_sampler_waiting(self) -> bool:
        return self._shard.stats().waiting_requests > 0


class FarReader:
    """A learner's side in a process of its own."""

    def __init__(self, shards: list[Any]) -> None:
        self._reader = RayReplayReader(shards)

    def sample(self, count: int) -> tuple[int, list[list[float]]]:
        """(shards that are mapped, the teacher's values of so many batches)."""
        values = []
        for _ in range(count):
            batch = self._reader.sample(timeout_s=CALL_S)
            assert batch is not None
            check_small_batch(batch)
            values.append(batch["teacher_values"].tolist())
        return self._reader.num_mapped, values


RemoteSmallShard: Any = ray.remote(  # type: ignore[call-overload]
    num_cpus=0,
    max_restarts=-1,
    concurrency_groups=SHARD_GROUPS,
)(SmallShard)
RemoteFarReader: Any = ray.remote(num_cpus=0)(FarReader)


def small_chunks(actor: int, count: int, *, length: int = 6) -> list[Chunk]:
    """Chunks of one environment that never ends."""
    writer = EpisodeWriter(actor=actor)
    return [chunk_of(writer.play(0, "." * length)) for _ in range(count)]


def check_small_batch(batch: SampleBatch) -> None:
    """AssertionError unless every row is of one and the same step."""
    serials = (batch["teacher_values"] - 0.5).astype(np.int64)
    np.testing.assert_array_equal(batch["actions"], serials % 3)
    np.testing.assert_array_equal(
        batch["student_logits"][:, 0], (0.25 + serials % 500).astype("f2")
    )
    newest = batch.observations[:, 1].reshape(len(serials), 4).copy().view("<u4")[:, 0]
    np.testing.assert_array_equal(newest, 1 + serials)


def kill(shard: Any) -> None:
    """End a shard's process, and wait for the one that Ray starts in its place."""
    old = _pid(shard)
    assert old is not None
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: _pid(shard) not in (old, None), timeout_s=CALL_S, what="it is back")


def _pid(shard: Any) -> int | None:
    try:
        ray.get(ask(shard, "stats"), timeout=CALL_S)
    except RayActorError:
        return None
    return pid_of(shard)
