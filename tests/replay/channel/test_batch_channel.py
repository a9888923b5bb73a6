"""Channels between a shard and a reader, in one process and between two."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from replay_chunks import EpisodeWriter, chunk_of, make_spec

from replay.channel.batch_channel import (
    ChannelClosedError,
    ChannelOffer,
    ChannelReader,
    ChannelServer,
)
from replay.config import ReplayConfig
from replay.shard import ReplayShard
from replay.types import PriorityUpdate, SampleBatch

ROOT = Path(__file__).parents[3]
SOON_S = 30.0
CONFIG = ReplayConfig(
    batch_size=4,
    min_size_per_game=4,
    samples_per_insert=1.0,
    samples_per_insert_cap=1000.0,
    error_buffer=1000.0,
    capacity_per_game=64,
)

OWNER = """
import pickle, sys
sys.path.insert(0, "tests/support")
sys.path.insert(0, "tests/replay/channel")
from test_batch_channel import make_shard
from replay.channel.batch_channel import ChannelServer
server = ChannelServer(make_shard(), num_slots=2)
sys.stdout.buffer.write(pickle.dumps(server.offer))
sys.stdout.flush()
server.thread.join()
print("the reader is gone", flush=True)
sys.stdin.read()
"""


def make_shard(*, seed: int = 0, num_successors: int = 2, filled: bool = True) -> ReplayShard:
    """With games of teachers of different widths, and data of both."""
    specs = [
        make_spec(num_successors=num_successors),
        make_spec(game="boxing", num_teacher_features=3, num_successors=num_successors),
    ]
    shard = ReplayShard(CONFIG, specs, shard=1, seed=seed)
    if filled:
        fill(shard)
    return shard


def fill(shard: ReplayShard) -> None:
    for actor, spec in enumerate(shard.specs):
        entries = EpisodeWriter(actor=actor).play(0, "..l...t....e...")
        features = spec.entry.num_teacher_features
        assert shard.add(chunk_of(entries, game=spec.game, num_teacher_features=features))


def arrays_of(batch: SampleBatch) -> dict[str, np.ndarray]:
    """Copies of all arrays."""
    return {name: array.copy() for name, array in batch.columns.items()} | {
        f"{type(holder).__name__}.{field.name}": np.array(value)
        for holder in (batch, batch.keys, batch.successors, batch.sequences)
        if holder is not None
        for field in fields(holder)
        if isinstance(value := getattr(holder, field.name), np.ndarray)
    }


def assert_same(left: SampleBatch | None, right: SampleBatch | None) -> None:
    assert left is not None
    assert right is not None
    one, other = arrays_of(left), arrays_of(right)
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)
    assert (left.games, left.keys.shard) == (right.games, right.keys.shard)


def take(
    reader: ChannelReader, updates: tuple[PriorityUpdate, ...] = (), *, timeout_s: float = 0.0
) -> SampleBatch | None:
    """A batch from request to answer."""
    reader.give_back()
    reader.ask(timeout_s=timeout_s, updates=updates)
    assert reader.is_answered(SOON_S)
    return reader.receive()


@contextmanager
def channel(
    shard: ReplayShard, *, num_slots: int = 2
) -> Iterator[tuple[ChannelServer, ChannelReader]]:
    """Both sides in this process."""
    server = ChannelServer(shard, num_slots=num_slots)
    reader = ChannelReader.open(server.offer)
    assert reader is not None
    try:
        yield server, reader
    finally:
        reader.close()
        server.thread.join(SOON_S)
        assert not server.thread.is_alive()


class Owner:
    """Another process with a shard and one channel."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.offer: ChannelOffer = pickle.load(self.output)

    @property
    def output(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def kill(self) -> None:
        """As the kernel does when memory runs out."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def owner() -> Iterator[Owner]:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        try:
            yield Owner(process)
        finally:
            process.kill()


# What comes through


@pytest.mark.parametrize("num_successors", [0, 2])
def test_batches_are_those_that_the_shard_itself_would_give(num_successors):
    shards = [make_shard(num_successors=num_successors) for _ in range(2)]
    with channel(shards[0]) as (_, reader):
        for _ in range(6):
            assert_same(take(reader), shards[1].sample())


def test_another_process_gives_the_same_batches(owner):
    reader = ChannelReader.open(owner.offer)
    assert reader is not None
    reference = make_shard()
    for _ in range(6):
        assert_same(take(reader), reference.sample())
    reader.close()


def test_a_batch_is_a_read_only_view_of_shared_memory_and_its_keys_are_its_own():
    with channel(make_shard(), num_slots=1) as (_, reader):
        batch = take(reader)
        assert batch is not None
        assert not batch.observations.flags.writeable
        before = arrays_of(batch)
        while np.array_equal(batch["teacher_values"], before["teacher_values"]):
            take(reader)
        np.testing.assert_array_equal(batch.keys.generations, before["ItemKeys.generations"])


def test_a_batch_in_hand_is_not_written_over_by_requests_under_way():
    with channel(make_shard(), num_slots=3) as (_, reader):
        for _ in range(10):
            batch = take(reader)
            assert batch is not None
            before = arrays_of(batch)
            while reader.has_room:
                reader.ask(timeout_s=0.0)
            assert reader.num_asked == 2
            assert reader.is_answered(SOON_S)
            for name, array in arrays_of(batch).items():
                np.testing.assert_array_equal(array, before[name], err_msg=name)
            while reader.num_asked:
                assert reader.receive() is not None
                reader.give_back()


def test_no_slot_is_lost_when_there_is_no_batch_in_time():
    shard = make_shard(filled=False)
    with channel(shard) as (_, reader):
        for _ in range(5):
            assert take(reader) is None
        fill(shard)
        assert take(reader) is not None


def test_a_request_waits_for_data_as_long_as_it_says():
    shard = make_shard(filled=False)
    with channel(shard) as (_, reader):
        reader.ask(timeout_s=SOON_S)
        assert not reader.is_answered(0.05)
        fill(shard)
        assert reader.is_answered(SOON_S)
        assert reader.receive() is not None


def priorities_of(shard: ReplayShard) -> set[float]:
    with shard.locked() as parts:
        return set(np.concatenate([t.ring["priorities"] for t in parts.tables]).tolist())


def test_priorities_that_travel_with_a_request_are_set_before_the_draw():
    shard = make_shard()
    with channel(shard) as (_, reader):
        updates = []
        for value in (5.0, 6.0):
            batch = take(reader)
            assert batch is not None
            priorities = np.full(4, value, np.float32)
            updates.append(PriorityUpdate(keys=batch.keys, priorities=priorities))
        assert not {5.0, 6.0} & priorities_of(shard)
        take(reader, tuple(updates))
        assert {5.0, 6.0} <= priorities_of(shard)


def test_priorities_that_are_refused_are_an_error_of_the_reader_and_keep_no_slot():
    with channel(make_shard(), num_slots=1) as (_, reader):
        batch = take(reader)
        assert batch is not None
        bad = PriorityUpdate(keys=batch.keys, priorities=np.full(4, -1.0, np.float32))
        with pytest.raises(ValueError, match="finite and not negative"):
            take(reader, (bad,))
        assert take(reader) is not None


def test_a_draw_that_fails_is_an_error_of_the_reader_and_keeps_no_slot(monkeypatch):
    shard = make_shard()
    sample: Callable[..., SampleBatch | None] = shard.sample

    def fail(**options: object) -> None:
        raise ZeroDivisionError("no luck")

    with channel(shard, num_slots=1) as (_, reader):
        monkeypatch.setattr(shard, "sample", fail)
        with pytest.raises(RuntimeError, match="ZeroDivisionError: no luck"):
            take(reader)
        monkeypatch.setattr(shard, "sample", sample)
        assert take(reader) is not None


def test_priorities_of_more_than_a_pipe_holds_go_through():
    shard = make_shard()
    with channel(shard) as (_, reader):
        batch = take(reader)
        assert batch is not None
        update = PriorityUpdate(keys=batch.keys, priorities=np.full(4, 3.0, np.float32))
        assert take(reader, (update,) * 20_000) is not None
        assert 3.0 in priorities_of(shard)


# Who may open it


def test_an_offer_of_a_process_that_cannot_be_seen_is_not_taken():
    server = ChannelServer(make_shard(), num_slots=1, accept_s=0.0)
    for changes in ({"pid": 2**22 + 1}, {"memory": 10**6}, {"requests": 10**6}, {"replies": 10**6}):
        assert ChannelReader.open(replace(server.offer, **changes)) is None
    server.thread.join(SOON_S)


def test_other_files_under_the_same_numbers_are_not_opened(tmp_path):
    # Opening a named pipe for reading would wait for a writer for ever.
    os.mkfifo(tmp_path / "pipe")
    pipe = os.open(tmp_path / "pipe", os.O_RDWR)
    first = ChannelServer(make_shard(), num_slots=1)
    second = ChannelServer(make_shard(), num_slots=1)
    offer = first.offer
    for other in (pipe, second.offer.memory, second.offer.requests, second.offer.replies):
        for name in ("memory", "requests", "replies"):
            assert ChannelReader.open(replace(offer, **{name: other})) is None
    os.close(pipe)
    for server in (first, second):
        reader = ChannelReader.open(server.offer)
        assert reader is not None
        assert take(reader) is not None
        reader.close()
        server.thread.join(SOON_S)


def test_an_offer_of_more_than_there_is_is_not_taken():
    server = ChannelServer(make_shard(), num_slots=1, accept_s=0.0)
    assert ChannelReader.open(replace(server.offer, num_slots=100_000)) is None
    server.thread.join(SOON_S)


def test_an_offer_to_another_container_is_not_taken():
    elsewhere = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    try:
        subprocess.run([*elsewhere, "true"], check=True, capture_output=True, timeout=SOON_S)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system lets nobody make containers")
    server = ChannelServer(make_shard(), num_slots=1)
    reader = (
        "import pickle, sys; from replay.channel.batch_channel import ChannelReader; "
        "print(ChannelReader.open(pickle.load(sys.stdin.buffer)))"
    )
    answer = subprocess.run(
        [*elsewhere, sys.executable, "-c", reader],
        input=pickle.dumps(server.offer),
        check=True,
        capture_output=True,
        cwd=ROOT,
        timeout=60.0,
    )
    assert answer.stdout == b"None\n"
    here = ChannelReader.open(server.offer)
    assert here is not None
    assert take(here) is not None
    here.close()
    server.thread.join(SOON_S)


def test_shared_memory_cannot_be_shortened_under_a_reader():
    server = ChannelServer(make_shard(), num_slots=1, accept_s=0.5)
    with pytest.raises(PermissionError):
        os.ftruncate(server.offer.memory, 0)
    server.thread.join(SOON_S)


# How it ends


def test_a_reader_learns_of_the_shards_death_and_keeps_the_batch_in_hand(owner):
    names = set(os.listdir("/dev/shm"))
    reader = ChannelReader.open(owner.offer)
    assert reader is not None
    batch = take(reader)
    assert batch is not None
    before = arrays_of(batch)
    owner.kill()
    with pytest.raises(ChannelClosedError):
        reader.ask(timeout_s=0.0)
    assert reader.is_answered(SOON_S)
    with pytest.raises(ChannelClosedError):
        reader.receive()
    reader.close()
    for name, array in arrays_of(batch).items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    assert ChannelReader.open(owner.offer) is None
    assert set(os.listdir("/dev/shm")) <= names


def test_a_shard_learns_of_the_readers_death(owner):
    code = (
        "import os, pickle, signal, sys; from replay.channel.batch_channel import ChannelReader; "
        "reader = ChannelReader.open(pickle.load(sys.stdin.buffer)); "
        "reader.ask(timeout_s=0.0); reader.is_answered(30.0); reader.receive(); "
        "reader.ask(timeout_s=0.0); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(owner.offer), cwd=ROOT, timeout=60.0
    )
    assert ended.returncode == -signal.SIGKILL
    assert owner.output.readline() == b"the reader is gone\n"


def test_nothing_is_left_of_channels_that_have_ended():
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count("replay-batches-")

    shard = make_shard()
    gc.collect()
    before = descriptors(), threading.active_count(), mapped()
    for _ in range(5):
        with channel(shard) as (server, reader):
            assert take(reader) is not None
        del server, reader
    gc.collect()
    assert (descriptors(), threading.active_count(), mapped()) == before
