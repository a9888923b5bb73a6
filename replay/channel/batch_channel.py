"""Batches from a replay process to a reader on the same machine: shared memory and two pipes.

    reader  --fill slot 2; here are new priorities-->  shard      (a pipe)
            <------------ slot 2 is filled -----------            (another)
            <============ the batch itself ===========            (memory that both have mapped)

A channel has one reader. The reader says which slot to fill, so it alone keeps account of what it
still reads; the shard gathers the batch straight into it. Memory (memfd) and pipes are anonymous:
the reader opens them through /proc/PID/fd of the shard's process, nothing has a name in any folder,
and everything is gone when both processes have dropped it, however they end. Either side learns
of the other's death from the end of a pipe.

Where a reader cannot open an offer (another machine, another container, another user, no /proc),
`ChannelReader.open` says so, and batches travel another way.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import select
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from replay.batches.draw import BatchLayout
from replay.channel.shared_memory import make_shared, map_shared
from replay.shard import ReplayShard
from replay.types import ItemKeys, PriorityUpdate, SampleBatch, UInt8Array

_REQUEST = struct.Struct("<qdq")  # Slot, timeout in seconds, bytes of the priorities that follow.
_REPLY = struct.Struct("<qqq")  # Slot, what became of it, bytes of the message that follows.
_NOT_YET, _FILLED, _REFUSED, _FAILED = range(4)

# Room for the priorities of many batches: a reader does not wait while a batch is drawn.
_PIPE_BYTES = 1 << 20

# How long an offer stands.
_ACCEPT_S = 60.0


class ChannelClosedError(ConnectionError):
    """The other side is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelOffer:
    """What a reader on the same machine needs to open a channel."""

    pid: int
    # Descriptor, in that process; so are the next two.
    memory: int
    requests: int
    replies: int
    # What the system calls the three files. The memory's is random: no other process has it, on
    # this machine or another.
    names: tuple[str, ...]
    num_slots: int
    layout: BatchLayout
    # Number of the shard, stamped on the batches' keys.
    shard: int

    def batches(self, memory: UInt8Array) -> list[SampleBatch]:
        """The batches in the slots; views of the memory."""
        blocks = memory.reshape(self.num_slots, self.layout.num_bytes)
        return [self.layout.batch(block, shard=self.shard) for block in blocks]


class ChannelServer:
    """A shard's side: a thread that draws what one reader asks for."""

    def __init__(self, shard: ReplayShard, *, num_slots: int, accept_s: float = _ACCEPT_S) -> None:
        """Make memory and pipes, and wait `accept_s` for a reader.

        OSError where the system has no such memory, or no room for it.
        """
        self._shard = shard
        self._accept_s = accept_s
        layout = BatchLayout.of_tables(shard.specs, shard.config.batch_size)
        # A random name: no other process has it, on this machine or another.
        name = f"replay-batches-{secrets.token_hex(16)}"
        memory, blocks = make_shared(num_slots * layout.num_bytes, name=name)
        self._requests, to_requests = os.pipe()
        from_replies, self._replies = os.pipe()
        with suppress(OSError):
            fcntl.fcntl(self._requests, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        # The reader's ends; kept open until it has opened them for itself.
        self._offered = [memory, to_requests, from_replies]
        names = [os.readlink(f"/proc/self/fd/{number}") for number in self._offered]
        self.offer = ChannelOffer(
            pid=os.getpid(),
            memory=memory,
            requests=to_requests,
            replies=from_replies,
            names=tuple(names),
            num_slots=num_slots,
            layout=layout,
            shard=shard.number,
        )
        self._batches = self.offer.batches(blocks)
        self.thread = threading.Thread(target=self._serve, name="batches", daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        """Answer until the reader is gone; its death ends a pipe, and so does nobody's coming."""
        try:
            if _is_readable(self._requests, self._accept_s):
                self._withdraw_offer()
                while True:
                    self._answer()
        except (ChannelClosedError, BrokenPipeError):
            pass
        finally:
            self._withdraw_offer()
            os.close(self._requests)
            os.close(self._replies)

    def _withdraw_offer(self) -> None:
        offered, self._offered = self._offered, []
        for descriptor in offered:
            os.close(descriptor)

    def _answer(self) -> None:
        request = _read(self._requests, _REQUEST.size)
        slot, timeout_s, num_bytes = _REQUEST.unpack(request)
        update = unpack_updates(_read(self._requests, num_bytes), shard=self._shard.number)
        outcome, message = _NOT_YET, ""
        try:
            self._shard.update_priorities(update)
            if self._shard.sample(timeout_s=timeout_s, out=self._batches[slot]) is not None:
                outcome = _FILLED
        except ValueError as error:
            outcome, message = _REFUSED, str(error)
        except Exception as error:
            # The reader's process is where it will be seen.
            outcome, message = _FAILED, f"{type(error).__name__}: {error}"
        text = message.encode()
        _write(self._replies, _REPLY.pack(slot, outcome, len(text)) + text)


class ChannelReader:
    """A reader's side; for one thread."""

    def __init__(
        self, offer: ChannelOffer, memory: UInt8Array, requests: int, replies: int
    ) -> None:
        """Use `open`."""
        self._batches = offer.batches(memory)
        self._requests = requests
        self._replies = replies
        self._free = list(range(offer.num_slots))
        self._held: int | None = None
        # Requests that have not been answered.
        self.num_asked = 0

    @classmethod
    def open(cls, offer: ChannelOffer) -> ChannelReader | None:
        """Open a channel; None if it cannot be reached from here."""
        descriptors: list[int] = []
        try:
            for number, name, flags in zip(
                (offer.memory, offer.requests, offer.replies),
                offer.names,
                # Without waiting for the other end, if there is none.
                (os.O_RDONLY, os.O_WRONLY | os.O_NONBLOCK, os.O_RDONLY | os.O_NONBLOCK),
                strict=True,
            ):
                path = f"/proc/{offer.pid}/fd/{number}"
                # On another machine or in another container these numbers may be anyone's, and
                # opening some files does things.
                if os.readlink(path) != name:
                    raise OSError(f"{path} is not {name}")
                descriptors.append(os.open(path, flags | os.O_CLOEXEC))
            memory, requests, replies = descriptors
            mapped = map_shared(memory, offer.num_slots * offer.layout.num_bytes)
        except (OSError, ValueError):
            for descriptor in descriptors:
                os.close(descriptor)
            return None
        os.close(memory)
        os.set_blocking(requests, True)
        os.set_blocking(replies, True)
        return cls(offer, mapped, requests, replies)

    @property
    def has_room(self) -> bool:
        """Whether there is a slot for another batch."""
        return bool(self._free)

    def fileno(self) -> int:
        """For polling: readable when there is an answer, or the shard is gone."""
        return self._replies

    def ask(self, *, timeout_s: float, updates: Sequence[PriorityUpdate] = ()) -> None:
        """Set priorities, then have a slot filled, for which the shard may wait `timeout_s`."""
        payload = pack_updates(updates)
        slot = self._free.pop()
        try:
            _write(self._requests, _REQUEST.pack(slot, timeout_s, len(payload)) + payload)
        except BrokenPipeError as error:
            raise ChannelClosedError("the replay process is gone") from error
        self.num_asked += 1

    def is_answered(self, timeout_s: float) -> bool:
        """Whether `receive` would not wait, now or within `timeout_s`."""
        return _is_readable(self._replies, timeout_s)

    def receive(self) -> SampleBatch | None:
        """The answer to the oldest request; None if there was no batch in time.

        The batch is read-only and valid until `give_back`, but for its keys, which are its own.
        ChannelClosedError if the shard's process is gone, ValueError if it refused the priorities,
        RuntimeError if it failed.
        """
        slot, outcome, num_bytes = _REPLY.unpack(_read(self._replies, _REPLY.size))
        message = _read(self._replies, num_bytes).decode()
        self.num_asked -= 1
        if outcome == _FILLED:
            self.give_back()
            self._held = slot
            return with_own_keys(self._batches[slot])
        self._free.append(slot)
        if outcome == _REFUSED:
            raise ValueError(message)
        if outcome == _FAILED:
            raise RuntimeError(f"replay could not give a batch: {message}")
        return None

    def give_back(self) -> None:
        """The batch received last is not needed any more."""
        if self._held is not None:
            self._free.append(self._held)
            self._held = None

    def close(self) -> None:
        """Let the shard's side end; a batch in hand stays as it is."""
        os.close(self._requests)
        os.close(self._replies)


def with_own_keys(batch: SampleBatch) -> SampleBatch:
    """The batch with copies of its keys: they are sent back when the batch is long gone."""
    keys = batch.keys
    game_index, generations = keys.game_index.copy(), keys.generations.copy()
    return replace(batch, keys=replace(keys, game_index=game_index, generations=generations))


def _is_readable(descriptor: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(1000.0 * timeout_s))


def _read(descriptor: int, size: int) -> bytes:
    """So many bytes; ChannelClosedError at the pipe's end."""
    parts = []
    while size:
        part = os.read(descriptor, size)
        if not part:
            raise ChannelClosedError("the replay process is gone")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


_UPDATE = np.dtype([("game", "<i8"), ("generation", "<i8"), ("priority", "<f4")], align=True)


def pack_updates(updates: Sequence[PriorityUpdate]) -> bytes:
    """The rows of all updates in their order; all are of one shard, whose number is left out."""
    rows = np.empty(sum(len(update.priorities) for update in updates), _UPDATE)
    start = 0
    for update in updates:
        part = rows[start : start + len(update.priorities)]
        part["game"] = update.keys.game_index
        part["generation"] = update.keys.generations
        part["priority"] = update.priorities
        start += len(part)
    return rows.tobytes()


def unpack_updates(data: bytes, *, shard: int) -> PriorityUpdate:
    """One update for all that `pack_updates` was given; the arrays are views of the bytes."""
    rows = np.frombuffer(data, _UPDATE)
    keys = ItemKeys(shard=shard, game_index=rows["game"], generations=rows["generation"])
    return PriorityUpdate(keys=keys, priorities=rows["priority"])
