"""A reader's connection to one replay process: by shared memory where it can, else through Ray.

Which way it is is found out by trying, and again whenever the process was restarted.
"""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import ObjectLostError, RayActorError

from replay.channel.batch_channel import ChannelClosedError, ChannelReader, with_own_keys
from replay.types import PriorityUpdate, SampleBatch

SAMPLE_GROUP = "sample"
"""Ray concurrency group of a shard in which samplers wait."""

CALLS_PER_SHARD = 2
"""Requests kept under way to each shard: one is worked at while the next is there already."""

RESTART_PAUSE_S = 0.25
"""How long a shard whose process has died is left alone before it is called again."""

SHARD_PATIENCE_S = 1.0
"""How long one call may wait inside a shard before it comes back without a result."""

_SLICE_S = 0.02
"""How long to wait for one kind of answers before looking at the other kind."""


class ShardLink:
    """Keeps requests to one shard under way; `add_update` may be called from another thread."""

    def __init__(self, handle: Any, *, may_map: bool) -> None:
        """Nothing is asked yet; `may_map`: whether batches may come through shared memory."""
        self.handle = handle
        self.is_late = False
        """Has no turn until it gives a batch."""
        self._may_map = may_map
        self._opening: Any = None
        """Ray's reference to an offer of a channel."""
        self._channel: ChannelReader | None = None
        self._by_object_store = not may_map
        self._calls: deque[Any] = deque()
        """Ray's references to batches, oldest first."""
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
        except (ChannelClosedError, RayActorError, ObjectLostError):
            self._rest()
        return None

    def _rest(self) -> None:
        """The process is gone. Another one will come, perhaps on another machine."""
        if self._channel is not None:
            self._channel.close()
        self._channel = self._opening = None
        self._calls.clear()
        self._by_object_store = not self._may_map
        self._resting_until = time.monotonic() + RESTART_PAUSE_S

    def give_back(self) -> None:
        """The batch received last is not needed any more."""
        if self._channel is not None:
            self._channel.give_back()


def first_answered(links: Sequence[ShardLink], timeout_s: float) -> ShardLink | None:
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
