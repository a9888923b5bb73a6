"""An actor's side of replay over Ray: bounded, timed and counted calls with chunks.

Chunks go through Ray's object store, where the shard sees them without another copy.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import ray

from engines.on_ray.calls import ADD_GROUP, LOSSES, RESTART_PAUSE_S, SHARD_PATIENCE_S
from replay.client import shard_of
from replay.types import Chunk

# Chunks that a writer holds: those in the call under way and those that wait for the next.
_MAX_CHUNKS = 4


class RayReplayWriter:
    """An actor's side: gives chunks to its shard, at most one call with them under way.

    One call under way is enough to overlap sending with playing, and keeps a stream's chunks in
    order whatever the shard's threads do. Chunks that come meanwhile wait for the next call.
    """

    def __init__(self, shards: Sequence[Any]) -> None:
        """`shards`: handles of all replay shards, in order."""
        self._shards = list(shards)
        self._shard: Any = None
        # References of chunks that are in no call.
        self._queue: deque[Any] = deque()
        # References of the chunks in the call under way.
        self._sent: list[Any] = []
        self._reply: Any = None
        self._is_shard_up = True
        self._resting_until = 0.0
        # Chunks given up because their shard died.
        self.chunks_lost = 0

    def add(self, chunk: Chunk, *, timeout_s: float) -> bool:
        """Take over a chunk, if not too many wait already.

        Waits up to `timeout_s` for replay to take an earlier one; ended by the learner's sampling,
        or by the return of a shard that died. Returns False if it still waits.
        """
        deadline = time.monotonic() + timeout_s
        self._advance(0.0)
        while len(self._queue) + len(self._sent) >= _MAX_CHUNKS:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            self._advance(remaining)
        # All chunks of an actor go to one shard.
        self._shard = self._shards[shard_of(chunk, len(self._shards))]
        self._queue.append(ray.put(chunk))
        self._advance(0.0)
        return True

    def flush(self, *, timeout_s: float) -> bool:
        """Whether all chunks are stored (or lost with their shard) within `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        self._advance(0.0)
        while self._queue or self._reply is not None:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            self._advance(remaining)
        return True

    def _advance(self, timeout_s: float) -> None:
        """Wait for the call under way, at most `timeout_s`, and make the next one."""
        if self._reply is not None:
            ready, _ = ray.wait([self._reply], timeout=timeout_s)
            if not ready:
                return
            self._receive()
        if not self._queue:
            return
        rest_s = self._resting_until - time.monotonic()
        if rest_s > 0:
            time.sleep(min(rest_s, timeout_s))
            return
        # A shard that died is asked without a chunk until it answers, so that none is lost to it.
        self._sent = list(self._queue) if self._is_shard_up else []
        if self._sent:
            self._queue.clear()
        self._reply = self._shard.add.options(concurrency_group=ADD_GROUP).remote(
            SHARD_PATIENCE_S, *self._sent
        )

    def _receive(self) -> None:
        reply, self._reply = self._reply, None
        sent, self._sent = self._sent, []
        try:
            num_stored: int = ray.get(reply)
        except LOSSES:
            # The shard is being restarted; what it had not stored yet is gone with its process.
            self.chunks_lost += len(sent)
            self._is_shard_up = False
            self._resting_until = time.monotonic() + RESTART_PAUSE_S
            return
        self._is_shard_up = True
        self._queue.extendleft(reversed(sent[num_stored:]))
