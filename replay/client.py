"""The only replay interfaces that actors and learner see, and their in-process implementation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from replay.shard import ReplayShard
from replay.stats import ShardStats
from replay.types import STREAMS_PER_ACTOR_BITS, Chunk, PriorityUpdate, SampleBatch


class ReplayWriter(Protocol):
    """An actor's bounded and timed access to the replay of a run."""

    def add(self, chunk: Chunk, *, timeout_s: float) -> bool:
        """Store a chunk; False if replay did not take it within `timeout_s` (try it again)."""
        ...


class ReplayReader(Protocol):
    """The learner's bounded and timed access to the replay of a run."""

    def sample(self, *, timeout_s: float) -> SampleBatch | None:
        """The next batch, or None if there was none within `timeout_s`."""
        ...

    def update_priorities(self, update: PriorityUpdate) -> None:
        """Send new priorities; does not wait for them to be applied."""
        ...


class LocalReplayClient:
    """Both interfaces on shards that live in this process; never waits.

    A stream sticks to one shard (`shard_of`); batches come from the shards in turn.
    """

    def __init__(self, shards: Sequence[ReplayShard]) -> None:
        """Use `shards`, numbered as in the list."""
        self._shards = list(shards)
        self._next_shard = 0

    def add(self, chunk: Chunk, *, timeout_s: float = 0.0) -> bool:
        """Store a chunk if its shard takes it now."""
        return self._shards[shard_of(chunk, len(self._shards))].add(chunk)

    def sample(self, *, timeout_s: float = 0.0) -> SampleBatch | None:
        """A batch of the first shard in turn that has one now."""
        for _ in self._shards:
            shard = self._shards[self._next_shard]
            self._next_shard = (self._next_shard + 1) % len(self._shards)
            batch = shard.sample()
            if batch is not None:
                return batch
        return None

    def update_priorities(self, update: PriorityUpdate) -> None:
        """Apply new priorities."""
        self._shards[update.keys.shard].update_priorities(update)

    def stats(self) -> list[ShardStats]:
        """Figures of each shard, in the order of their numbers."""
        return [shard.stats() for shard in self._shards]


def shard_of(chunk: Chunk, num_shards: int) -> int:
    """The shard that keeps a chunk: all streams of an actor stick to one shard.

    It follows from the actor's serial number alone; which serials an actor may take follows from
    replay.pace.slices.
    """
    return int(chunk.streams[0] >> STREAMS_PER_ACTOR_BITS) % num_shards
