"""Replay over Ray: bounded, timed and counted calls to the shards' handles.

Chunks go through Ray's object store. Batches are gathered into shared memory where reader and
shard are on one machine, and go through the object store where they are not (shard_link.py).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from engines.on_ray.shard_link import (
    CALLS_PER_SHARD,
    RESTART_PAUSE_S,
    SAMPLE_GROUP,
    SHARD_PATIENCE_S,
    ShardLink,
    first_answered,
)
from replay.client import shard_of
from replay.types import Chunk, PriorityUpdate, SampleBatch

ADD_GROUP = "add"
UPDATE_GROUP = "update"
CONTROL_GROUP = "control"
"""Ray concurrency groups of a shard: callers that wait in one do not hold up the others."""

SHARD_GROUPS = {ADD_GROUP: 256, SAMPLE_GROUP: 4, UPDATE_GROUP: 1, CONTROL_GROUP: 2}
"""Threads of each group. One for updates: a second could apply the older of two last. As many for
adding as actors may wait at a shard: those beyond wait in Ray's queue, where nobody gives turns."""

_TURN_PATIENCE_S = 0.1
"""How long a reader waits for the shard whose turn it is before it asks the others."""

_MAX_CHUNKS = 4
"""Chunks that a writer holds: those in the call under way and those that wait for the next."""

_UPDATES_PER_CALL = 8
"""Priority updates that wait for the next sample call; that many go without one."""

_MAX_UPDATE_CALLS = 4
"""Calls with priority updates alone that may be under way."""


class RayReplayWriter:
    """An actor's side: gives chunks to its shard, at most one call with them under way.

    One call under way is enough to overlap sending with playing, and keeps a stream's chunks in
    order whatever the shard's threads do. Chunks that come meanwhile wait for the next call.
    """

    def __init__(self, shards: Sequence[Any]) -> None:
        """`shards`: handles of all replay shards, in order."""
        self._shards = list(shards)
        self._shard: Any = None
        self._queue: deque[Any] = deque()
        """References of chunks that are in no call."""
        self._sent: list[Any] = []
        """References of the chunks in the call under way."""
        self._reply: Any = None
        self._is_shard_up = True
        self._resting_until = 0.0
        self.chunks_lost = 0
        """Chunks given up because their shard died."""

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
        except RayActorError:
            # The shard is being restarted; what it had not stored yet is gone with its process.
            self.chunks_lost += len(sent)
            self._is_shard_up = False
            self._resting_until = time.monotonic() + RESTART_PAUSE_S
            return
        self._is_shard_up = True
        self._queue.extendleft(reversed(sent[num_stored:]))


class RayReplayReader:
    """The learner's side: keeps a few requests under way, so that a batch is usually here.

    The shards give batches in turn, so that each has its part in what is learned. One that has
    none, or is dead, is passed over until it gives one again.

    `sample` may be called from one thread and `update_priorities` from another.
    """

    def __init__(self, shards: Sequence[Any], *, may_map: bool = True) -> None:
        """Nothing is asked for yet.

        Args:
            shards: handles of all replay shards, in order.
            may_map: whether batches may come through shared memory.
        """
        self._links = [ShardLink(handle, may_map=may_map) for handle in shards]
        self._turns = list(self._links)
        self._in_hand: ShardLink | None = None
        self._update_calls: deque[Any] = deque()

    @property
    def num_mapped(self) -> int:
        """Shards whose batches come through shared memory."""
        return sum(link.is_mapped for link in self._links)

    def sample(self, *, timeout_s: float) -> SampleBatch | None:
        """The next batch; ended by a shard's answer.

        But for its keys, it is valid until the next call of `sample`.
        """
        if self._in_hand is not None:
            self._in_hand.give_back()
            self._in_hand = None
        deadline = time.monotonic() + timeout_s
        while True:
            # All shards get their first request before one gets its second.
            for num_requests in range(1, CALLS_PER_SHARD + 1):
                for link in self._links:
                    link.keep_busy(num_requests)
            answered = self._next_answered(max(0.0, deadline - time.monotonic()))
            batch = self._receive(answered) if answered is not None else None
            if batch is not None or time.monotonic() >= deadline:
                return batch

    def _next_answered(self, timeout_s: float) -> ShardLink | None:
        """One that was late and has an answer, or the one whose turn it is, if it has one."""
        late = [link for link in self._turns if link.is_late]
        in_turn = [link for link in self._turns if not link.is_late]
        if late:
            link = first_answered(late, 0.0 if in_turn else timeout_s)
            if link is not None or not in_turn:
                return link
        head = in_turn[0]
        patience_s = timeout_s if len(self._links) == 1 else min(timeout_s, _TURN_PATIENCE_S)
        if head.is_answered(patience_s):
            return head
        head.is_late = len(self._links) > 1 and patience_s == _TURN_PATIENCE_S
        return None

    def _receive(self, link: ShardLink) -> SampleBatch | None:
        batch = link.receive()
        link.is_late = batch is None
        if batch is not None:
            self._in_hand = link
            self._turns.remove(link)
            self._turns.append(link)
        return batch

    def update_priorities(self, update: PriorityUpdate) -> None:
        """Send priorities with the next request, or soon; waits only if many are under way."""
        link = self._links[update.keys.shard]
        if link.add_update(update) >= _UPDATES_PER_CALL:
            self._send_updates(link)

    def flush(self) -> None:
        """Send all priorities that still wait for a request."""
        for link in self._links:
            self._send_updates(link)
        while self._update_calls:
            self._finish_update_call()

    def _send_updates(self, link: ShardLink) -> None:
        updates = link.take_updates()
        if not updates:
            return
        method = link.handle.update_priorities.options(concurrency_group=UPDATE_GROUP)
        self._update_calls.append(method.remote(*updates))
        while len(self._update_calls) > _MAX_UPDATE_CALLS:
            self._finish_update_call()

    def _finish_update_call(self) -> None:
        # Lost with the shard, or as good as stale: priorities are only hints.
        with suppress(RayActorError, GetTimeoutError):
            ray.get(self._update_calls.popleft(), timeout=10.0)
