"""The learner's side of replay over Ray: batches from all shards in turn, and new priorities.

Batches are gathered into shared memory where reader and shard are on one machine, and go through
Ray's object store where they are not. Which way it is is found out by trying, and again whenever
the shard's process was restarted.
"""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import GetTimeoutError

from engines.on_ray.calls import (
    LOSSES,
    RESTART_PAUSE_S,
    SAMPLE_GROUP,
    SHARD_PATIENCE_S,
    UPDATE_GROUP,
)
from replay.channel.batch_channel import ChannelClosedError, ChannelReader, with_own_keys
from replay.types import PriorityUpdate, SampleBatch

# Requests kept under way to each shard: one is worked at while the next is there already.
CALLS_PER_SHARD = 2

# How long to wait for one kind of answers before looking at the other kind.
_SLICE_S = 0.02

# How long a reader waits for the shard whose turn it is before it asks the others.
_TURN_PATIENCE_S = 0.1

# Priority updates that wait for the next sample call; that many go without one.
_UPDATES_PER_CALL = 8

# Calls with priority updates alone that may be under way.
_MAX_UPDATE_CALLS = 4


class RayReplayReader:
    """The learner's side: keeps a few requests under way, so that a batch is usually here.

    The shards give batches in turn, so that each has its part in what is learned. One that has
    none, or is dead, is passed over until it gives one again.

    `sample` may be called from one thread and `update_priorities` from another.
    """

    def __init__(self, shards: Sequence[Any]) -> None:
        """Nothing is asked for yet."""
        self._links = [ShardReader(handle) for handle in shards]
        self._turns = list(self._links)
        self._in_hand: ShardReader | None = None
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

    def _next_answered(self, timeout_s: float) -> ShardReader | None:
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

    def _receive(self, link: ShardReader) -> SampleBatch | None:
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

    def _send_updates(self, link: ShardReader) -> None:
        updates = link.take_updates()
        if not updates:
            return
        method = link.handle.update_priorities.options(concurrency_group=UPDATE_GROUP)
        self._update_calls.append(method.remote(*updates))
        while len(self._update_calls) > _MAX_UPDATE_CALLS:
            self._finish_update_call()

    def _finish_update_call(self) -> None:
        # Lost with the shard, or as good as stale: priorities are only hints.
        with suppress(*LOSSES, GetTimeoutError):
            ray.get(self._update_calls.popleft(), timeout=10.0)


class ShardReader:
    """Keeps requests to one shard under way; `add_update` may be called from another thread."""

    def __init__(self, handle: Any) -> None:
        """Nothing is asked yet."""
        self.handle = handle
        # Has no turn until it gives a batch.
        self.is_late = False
        # Ray's reference to an offer of a channel.
        self._opening: Any = None
        self._channel: ChannelReader | None = None
        self._by_object_store = False
        # Ray's references to batches, oldest first.
        self._calls: deque[Any] = deque()
        self._resting_until = 0.0
        self._updates: list[PriorityUpdate] = []
        self._lock = threading.Lock()

    @property
    def is_mapped(self) -> bool:
        """Whether batches come through shared memory."""
        return self._channel is not None

    def add_update(self, update: PriorityUpdate) -> int:
        """Keep priorities for the next request; how many wait now."""
        with self._lock:
            self._updates.append(update)
            return len(self._updates)

    def take_updates(self) -> list[PriorityUpdate]:
        """The priorities that wait, which wait no more."""
        with self._lock:
            updates, self._updates = self._updates, []
        return updates

    def keep_busy(self, num_requests: int) -> None:
        """Have at least so many requests under way, or be on the way to that."""
        if time.monotonic() < self._resting_until:
            return
        if self._channel is not None:
            try:
                while self._channel.num_asked < num_requests and self._channel.has_room:
                    self._channel.ask(timeout_s=SHARD_PATIENCE_S, updates=self.take_updates())
            except ChannelClosedError:
                self._rest()
        elif self._by_object_store:
            method = self.handle.sample.options(concurrency_group=SAMPLE_GROUP)
            while len(self._calls) < num_requests:
                self._calls.append(method.remote(SHARD_PATIENCE_S, *self.take_updates()))
        elif self._opening is None:
            method = self.handle.open_channel.options(concurrency_group=SAMPLE_GROUP)
            self._opening = method.remote()

    def is_answered(self, timeout_s: float) -> bool:
        """Whether `receive` would not wait, now or within `timeout_s`."""
        if self._channel is not None:
            return self._channel.num_asked > 0 and self._channel.is_answered(timeout_s)
        reference = self.reference
        return reference is not None and bool(ray.wait([reference], timeout=timeout_s)[0])

    @property
    def reference(self) -> Any:
        """What Ray is waited for; None where it is not."""
        return self._calls[0] if self._calls else self._opening

    @property
    def descriptor(self) -> int | None:
        """What the system is asked about; None where Ray is."""
        channel = self._channel
        return channel.fileno() if channel is not None and channel.num_asked else None

    def receive(self) -> SampleBatch | None:
        """The answer that is there; None if it is no batch.

        A batch is valid until `give_back`, but for its keys.
        """
        try:
            if self._channel is not None:
                return self._channel.receive()
            if self._calls:
                batch: SampleBatch | None = ray.get(self._calls.popleft())
                # Copied, so that keys do not keep a whole batch in the object store.
                return None if batch is None else with_own_keys(batch)
            opening, self._opening = self._opening, None
            offer = ray.get(opening)
            self._channel = None if offer is None else ChannelReader.open(offer)
            self._by_object_store = self._channel is None
        except (ChannelClosedError, *LOSSES):
            self._rest()
        return None

    def _rest(self) -> None:
        """The process is gone. Another one will come, perhaps on another machine."""
        if self._channel is not None:
            self._channel.close()
        self._channel = self._opening = None
        self._calls.clear()
        self._by_object_store = False
        self._resting_until = time.monotonic() + RESTART_PAUSE_S

    def give_back(self) -> None:
        """The batch received last is not needed any more."""
        if self._channel is not None:
            self._channel.give_back()


def first_answered(links: Sequence[ShardReader], timeout_s: float) -> ShardReader | None:
    """One that has an answer, waiting `timeout_s` for any of them."""
    by_descriptor = {link.descriptor: link for link in links if link.descriptor is not None}
    by_reference = {link.reference: link for link in links if link.reference is not None}
    deadline = time.monotonic() + timeout_s
    while True:
        remaining = max(0.0, deadline - time.monotonic())
        is_mixed = bool(by_descriptor) and bool(by_reference)
        slice_s = min(remaining, _SLICE_S) if is_mixed else remaining
        if by_descriptor:
            poll = select.poll()
            for descriptor in by_descriptor:
                poll.register(descriptor, select.POLLIN)
            for descriptor, _ in poll.poll(1000.0 * slice_s):
                return by_descriptor[descriptor]
        if by_reference:
            ready, _ = ray.wait(list(by_reference), timeout=0.0 if is_mixed else slice_s)
            if ready:
                return by_reference[ready[0]]
        if not by_descriptor and not by_reference:
            # All of them have died.
            time.sleep(min(remaining, RESTART_PAUSE_S))
            return None
        if remaining <= 0:
            return None
