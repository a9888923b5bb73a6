"""Replay over Ray: bounded, timed and counted calls to the shards' handles.

Bulk data goes through Ray's object store; a batch arrives as read-only views of shared memory.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from replay.client import shard_of
from replay.types import Chunk, PriorityUpdate, SampleBatch

ADD_GROUP = "add"
SAMPLE_GROUP = "sample"
CONTROL_GROUP = "control"
"""Ray concurrency groups of a shard: callers that wait in one do not hold up the others."""

_SHARD_PATIENCE_S = 1.0
"""How long one call may wait inside a shard before it comes back without a result."""


class RayReplayWriter:
    """An actor's side: gives chunks to its shard, at most one of them under way.

    One under way is enough to overlap sending with playing, and keeps a stream's chunks in order
    whatever the shard's threads do.
    """

    def __init__(self, shards: Sequence[Any]) -> None:
        """`shards`: handles of all replay shards, in order."""
        self._shards = list(shards)
        self._chunk: Any = None
        self._shard: Any = None
        self._reply: Any = None
        self.chunks_lost = 0
        """Chunks given up because their shard died."""

    def add(self, chunk: Chunk, *, timeout_s: float) -> bool:
        """Take over a chunk once the one before is stored.

        Waits up to `timeout_s` for replay to take the chunk before; ended by the learner's
        sampling. Returns False if it still waits.
        """
        if not self.flush(timeout_s=timeout_s):
            return False
        self._shard = self._shards[shard_of(chunk, len(self._shards))]
        self._chunk = ray.put(chunk)
        self._send()
        return True

    def flush(self, *, timeout_s: float) -> bool:
        """Whether the last chunk is stored (or lost with its shard) within `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while self._reply is not None:
            ready, _ = ray.wait([self._reply], timeout=max(0.0, deadline - time.monotonic()))
            if not ready:
                return False
            if self._is_stored():
                self._reply = self._chunk = None
            else:
                self._send()
        return True

    def _send(self) -> None:
        self._reply = self._shard.add.options(concurrency_group=ADD_GROUP).remote(
            self._chunk, timeout_s=_SHARD_PATIENCE_S
        )

    def _is_stored(self) -> bool:
        try:
            return bool(ray.get(self._reply))
        except RayActorError:
            # The shard is being restarted; what it had not stored yet is gone with its process.
            self.chunks_lost += 1
            return True


class RayReplayReader:
    """The learner's side: keeps a few sample calls under way, so that a batch is usually here."""

    def __init__(
        self, shards: Sequence[Any], *, num_prefetched: int = 2, max_pending_updates: int = 4
    ) -> None:
        """Keep `num_prefetched` calls under way, spread over the shards in turn."""
        self._shards = list(shards)
        self._num_prefetched = num_prefetched
        self._max_pending_updates = max_pending_updates
        self._next_shard = 0
        self._samples: deque[Any] = deque()
        self._updates: deque[Any] = deque()

    def sample(self, *, timeout_s: float) -> SampleBatch | None:
        """The next batch; ended by a shard's answer, which is due within its own patience."""
        deadline = time.monotonic() + timeout_s
        while True:
            self._request()
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return None
            try:
                batch: SampleBatch | None = ray.get(self._samples[0], timeout=remaining)
            except GetTimeoutError:
                return None
            except RayActorError:
                # The shard comes back; the others go on meanwhile.
                batch = None
            self._samples.popleft()
            if batch is not None:
                return batch

    def _request(self) -> None:
        while len(self._samples) < self._num_prefetched:
            shard = self._shards[self._next_shard]
            self._next_shard = (self._next_shard + 1) % len(self._shards)
            self._samples.append(
                shard.sample.options(concurrency_group=SAMPLE_GROUP).remote(
                    timeout_s=_SHARD_PATIENCE_S
                )
            )

    def update_priorities(self, update: PriorityUpdate) -> None:
        """Send priorities, waiting only when several earlier ones are still under way."""
        self._updates.append(
            self._shards[update.keys.shard]
            .update_priorities.options(concurrency_group=CONTROL_GROUP)
            .remote(update)
        )
        while len(self._updates) > self._max_pending_updates:
            try:
                ray.get(self._updates.popleft(), timeout=10.0)
            except (RayActorError, GetTimeoutError):
                # Lost with the shard, or as good as stale: priorities are only hints.
                continue
