"""Replay as in production: shard processes, with a writer and a reader in processes of their own.

The writer stands for an actor and the reader for the learner: each uses the client that its role
uses (engines/on_ray/replay_reader.py and replay_writer.py), whatever way that one moves its bytes.
The clocks run inside the writer and the reader, and only in the steady state: a client that keeps
calls under way is given some to begin with, which do not count, and has as many under way at the
end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from benchmarks.memory import Memcpy, arrays_of, num_bytes
from benchmarks.processes import ProcessReading, read_process
from benchmarks.replay.play import RecordedPlay
from benchmarks.setup import copy_source_bytes
from benchmarks.timing import Window, repeat_for
from engines.on_ray.cluster import RemoteShard
from engines.on_ray.ray_internals import pid_of
from engines.on_ray.replay_reader import RayReplayReader
from engines.on_ray.replay_writer import RayReplayWriter
from recipes.recipe import Recipe
from replay.stats import ShardStats
from replay.types import ItemKeys, PriorityUpdate, SampleBatch

# Longest wait for one window, or for one call of a client.
CALL_TIMEOUT_S = 120.0

# Calls before the clock starts: more than a client keeps under way.
_WARM_CALLS = 8
_PAGE_BYTES = 4096


class WriterProcess:
    """Gives recorded chunks to the shards, as an actor would."""

    def __init__(self, shard: Any, recorded: RecordedPlay, *, rank: int) -> None:
        """Nothing is sent yet; writers of different rank have different streams."""
        self._writer = RayReplayWriter([shard])
        self._play = recorded.endless(rank)

    def fill(self, entries: int) -> int:
        """Store at least as many entries; returns how many."""
        stored = 0
        while stored < entries:
            stored += self._add()
        self._flush()
        return stored

    def insert(self, seconds: float) -> Window:
        """Store chunks for about this long, from one moment when all are stored to another."""
        for _ in range(_WARM_CALLS):
            self._add()
        self._flush()
        return repeat_for(self._add, seconds, finish=self._flush)

    def _add(self) -> int:
        chunk = next(self._play)
        if not self._writer.add(chunk, timeout_s=CALL_TIMEOUT_S):
            raise TimeoutError(f"replay took no chunk in {CALL_TIMEOUT_S:g} s")
        return chunk.num_transitions

    def _flush(self) -> None:
        if not self._writer.flush(timeout_s=CALL_TIMEOUT_S):
            raise TimeoutError(f"replay stored no chunk in {CALL_TIMEOUT_S:g} s")


class ReaderProcess:
    """Takes batches and sends priorities, as a learner would, and copies memory for comparison."""

    def __init__(self, shards: list[Any], *, memcpy_source_bytes: int, seed: int) -> None:
        """Nothing is asked for yet; the shards need data before `sample`."""
        self._reader = RayReplayReader(shards)
        self._rng = np.random.default_rng(seed)
        self._memcpy_source_bytes = memcpy_source_bytes
        self._copy: Memcpy | None = None
        self._keys: deque[ItemKeys] = deque(maxlen=64)

    def bytes_per_sample(self) -> float:
        """Bytes of a transition as it arrives."""
        batch = self._next()
        return num_bytes(batch) / batch.batch_size

    def sample(self, seconds: float) -> Window:
        """Take batches for about this long, from the arrival of one to the arrival of another."""
        for _ in range(_WARM_CALLS):
            self._sample()
        return repeat_for(self._sample, seconds)

    def update(self, seconds: float) -> Window:
        """Send new priorities for about this long; those of the batches taken last."""
        if not self._keys:
            self._sample()
        for _ in range(_WARM_CALLS):
            self._update()
        self._reader.flush()
        return repeat_for(self._update, seconds, finish=self._reader.flush)

    def copy(self, seconds: float) -> Window:
        """Copy pieces of memory of a batch's size; the units are bytes."""
        if self._copy is None:
            self._copy = Memcpy(
                source_bytes=self._memcpy_source_bytes,
                piece_bytes=num_bytes(self._next()),
                rng=self._rng,
            )
        return repeat_for(self._copy.run, seconds)

    def learn(self, seconds: float) -> Window:
        """Take a batch, send its priorities, and so on: as fast as a learner could."""

        def learn() -> int:
            self._sample()
            return self._send(self._keys[-1])

        return repeat_for(learn, seconds)

    def _sample(self) -> int:
        batch = self._next()
        _touch(batch)
        self._keys.append(batch.keys)
        return batch.batch_size

    def _next(self) -> SampleBatch:
        batch = self._reader.sample(timeout_s=CALL_TIMEOUT_S)
        if batch is None:
            raise TimeoutError(f"replay gave no batch in {CALL_TIMEOUT_S:g} s")
        return batch

    def _update(self) -> int:
        self._keys.rotate(1)
        return self._send(self._keys[0])

    def _send(self, keys: ItemKeys) -> int:
        priorities = self._rng.random(len(keys.generations), np.float32)
        self._reader.update_priorities(PriorityUpdate(keys=keys, priorities=priorities))
        return len(priorities)


def _touch(batch: SampleBatch) -> None:
    """Read a byte of every page: a batch that is not mapped yet has not arrived."""
    for array in arrays_of(batch):
        if array.flags.c_contiguous:
            array.reshape(-1).view(np.uint8)[::_PAGE_BYTES].max(initial=0)


@dataclass(frozen=True, slots=True)
class ReplayProcesses:
    """Handles of one set of processes; every call waits for its answer."""

    shards: list[Any]
    writers: list[Any]
    reader: Any

    def fill(self, entries: int) -> int:
        """Each writer stores its part of `entries`; returns how many it were."""
        part = -(-entries // len(self.writers))
        return sum(wait_for([writer.fill.remote(part) for writer in self.writers]))

    def window(self, operation: str, seconds: float) -> Window:
        """All writers insert at once, or the reader samples, updates or copies, for so long."""
        workers = self.writers if operation == "insert" else [self.reader]
        calls = [getattr(worker, operation).remote(seconds) for worker in workers]
        return add_windows(wait_for(calls))

    def bytes_per_sample(self) -> float:
        """Bytes of a transition as it arrives."""
        return float(wait_for([self.reader.bytes_per_sample.remote()])[0])

    def read_shards(self) -> list[ProcessReading]:
        """Memory, descriptors and threads of every shard."""
        return [read_process(pid_of(shard)) for shard in self.shards]

    def counted_bytes_per_entry(self) -> float:
        """Memory of the tables of all shards, as they count it themselves."""
        answers: list[tuple[str, ShardStats]] = wait_for([s.stats.remote() for s in self.shards])
        tables = [table for _, stats in answers for table in stats.tables.values()]
        return float(sum(t.num_bytes for t in tables) / sum(t.size for t in tables))

    def check_valid(self) -> None:
        """Raises ValueError if a shard's tables have come to harm."""
        wait_for([shard.check_valid.remote() for shard in self.shards])


@contextmanager
def replay_processes(recipe: Recipe, recorded: RecordedPlay) -> Iterator[ReplayProcesses]:
    """The run's shards with a writer for each and one reader, ended with the `with` block."""
    num_shards = recipe.config.replay.num_shards
    shards = [RemoteShard.remote(recipe, shard) for shard in range(num_shards)]
    play = ray.put(recorded)
    writers = [_Writer.remote(shard, play, rank=rank) for rank, shard in enumerate(shards)]
    reader = _Reader.remote(
        shards, memcpy_source_bytes=copy_source_bytes(recipe), seed=recipe.config.seed
    )
    try:
        yield ReplayProcesses(shards, writers, reader)
    finally:
        for process in (*writers, reader, *shards):
            ray.kill(process)


def add_windows(windows: Sequence[Window]) -> Window:
    """Windows at one time: the work of all, in the time of the longest."""
    return Window(max(w.seconds for w in windows), sum(w.units for w in windows))


def wait_for(calls: list[Any]) -> list[Any]:
    """Answers of remote calls; ray.exceptions.GetTimeoutError after two minutes."""
    answers: list[Any] = ray.get(calls, timeout=CALL_TIMEOUT_S)
    return answers


_remote: Any = ray.remote
# Without a CPU of their own: that many cores need not be there.
_Writer = _remote(num_cpus=0)(WriterProcess)
_Reader = _remote(num_cpus=0)(ReaderProcess)
