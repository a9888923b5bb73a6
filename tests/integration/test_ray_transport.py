"""Chunks into and batches out of replay processes on a real Ray, also when one of them dies."""

from __future__ import annotations

import numpy as np
import pytest
import ray
from ray_shards import (
    CALL_S,
    RemoteFarReader,
    RemoteSmallShard,
    check_small_batch,
    kill,
    small_chunks,
)
from runs import wait_until

from engines.on_ray.replay_reader import CALLS_PER_SHARD, RayReplayReader
from engines.on_ray.replay_writer import RayReplayWriter
from replay.channel.batch_channel import ChannelReader
from replay.types import PriorityUpdate

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("shared_ray")]


@pytest.fixture
def start():
    """Starts shards, which end with the test."""
    shards = []

    def start_shards(count=1, **options):
        first = len(shards)
        new = [RemoteSmallShard.remote(first + n, **options) for n in range(count)]
        wait_for(new)
        shards.extend(new)
        return shards

    yield start_shards
    for shard in shards:
        ray.kill(shard)


@pytest.fixture(scope="module")
def shard(shared_ray):
    """One that has some data, for all tests that leave it as it is or add to it."""
    shard = RemoteSmallShard.remote(0)
    wait_for([shard])
    store([shard])
    yield shard
    ray.kill(shard)


def wait_for(shards):
    """Until they have started, which takes its time on a busy machine."""
    questions = [shard.num_drawn.options(concurrency_group="control") for shard in shards]
    ray.get([question.remote() for question in questions], timeout=120.0)


def ask(shard, question):
    return ray.get(
        getattr(shard, question).options(concurrency_group="control").remote(), timeout=CALL_S
    )


def store(shards, *, actor=0, count=10):
    writer = RayReplayWriter(shards)
    for chunk in small_chunks(actor, count):
        assert writer.add(chunk, timeout_s=CALL_S)
    assert writer.flush(timeout_s=CALL_S)
    assert writer.chunks_lost == 0


def take(reader):
    batch = reader.sample(timeout_s=CALL_S)
    assert batch is not None
    check_small_batch(batch)
    return batch


def test_chunks_are_stored_once_and_in_order_however_many_go_with_one_call(shard):
    for actor, length in ((101, 1), (102, 6)):
        before = len(ask(shard, "columns")["steps"])
        writer = RayReplayWriter([shard])
        chunks = small_chunks(actor, 60, length=length)
        for chunk in chunks:
            assert writer.add(chunk, timeout_s=CALL_S)
        assert writer.flush(timeout_s=CALL_S)
        stored = {name: column[before:] for name, column in ask(shard, "columns").items()}
        assert stored["steps"].tolist() == list(range(60 * length))
        for name in ("frames", "rewards"):
            np.testing.assert_array_equal(stored[name], np.concatenate([c[name] for c in chunks]))


def test_a_writer_refuses_more_chunks_while_replay_waits_for_the_learner(start):
    (shard,) = start(samples_per_insert=1.0)
    writer, reader = RayReplayWriter([shard]), RayReplayReader([shard])
    assert not len(ask(shard, "columns")["steps"])  # It has started.
    num_taken = 0
    for chunk in small_chunks(0, 200):
        if not writer.add(chunk, timeout_s=3.0):
            break
        num_taken += 1
    assert not writer.flush(timeout_s=0.1)
    size = len(ask(shard, "columns")["steps"])
    assert 100 < size < 6 * num_taken <= size + 4 * 6
    # It is offered again, as an actor would.
    for _ in range(10):
        take(reader)
    assert writer.add(chunk, timeout_s=CALL_S)
    assert writer.flush(timeout_s=CALL_S)
    steps = ask(shard, "columns")["steps"]
    assert steps.tolist() == list(range(6 * num_taken + 6))


def test_batches_come_through_shared_memory_on_one_node(shard):
    reader = RayReplayReader([shard])
    for _ in range(10):
        assert not take(reader).observations.flags.writeable
    assert reader.num_mapped == 1


def test_a_reader_that_cannot_open_the_channel_takes_the_object_store(shard, monkeypatch):
    monkeypatch.setattr(ChannelReader, "open", lambda offer: None)
    reader = RayReplayReader([shard])
    for _ in range(10):
        take(reader)
    assert reader.num_mapped == 0


def test_a_batch_stays_as_it_is_until_the_next_is_asked_for(shard):
    reader = RayReplayReader([shard])
    begun = ask(shard, "num_drawn")
    for count in range(10):
        batch = take(reader)
        values = batch["teacher_values"].copy()
        wait_until(
            lambda count=count: ask(shard, "num_drawn") >= begun + 8 * (count + CALLS_PER_SHARD),
            timeout_s=CALL_S,
            what="the next is drawn",
        )
        np.testing.assert_array_equal(batch["teacher_values"], values)
        check_small_batch(batch)


def test_priorities_arrive_with_sample_calls_and_without(shard):
    reader = RayReplayReader([shard])

    def send(value):
        keys = take(reader).keys
        reader.update_priorities(
            PriorityUpdate(keys=keys, priorities=np.full(8, value, np.float32))
        )

    send(50.0)
    for _ in range(CALLS_PER_SHARD + 1):
        take(reader)
    assert 50.0 in ask(shard, "columns")["priorities"]
    send(60.0)
    reader.flush()
    assert 60.0 in ask(shard, "columns")["priorities"]
    keys = take(reader).keys
    for value in range(100, 200):
        reader.update_priorities(
            PriorityUpdate(keys=keys, priorities=np.full(8, value, np.float32))
        )
    reader.flush()
    assert 199.0 in ask(shard, "columns")["priorities"]


def test_near_and_far_shards_are_waited_for_at_once_and_give_batches_in_turn(start):
    start(num_batch_slots=0)
    shards = start()
    reader = RayReplayReader(shards)
    assert reader.sample(timeout_s=0.5) is None
    store(shards, actor=0)
    assert take(reader).keys.shard == 0
    store(shards, actor=1)
    wait_until(lambda: take(reader).keys.shard == 1, timeout_s=CALL_S, what="the other gives too")
    for _ in range(9):
        take(reader)
    assert reader.num_mapped == 1
    seen = [take(reader).keys.shard for _ in range(20)]
    # A busy machine may make one of them late.
    assert min(seen.count(number) for number in range(2)) >= 7


def test_the_other_shards_go_on_while_one_is_dead_and_it_is_mapped_again_when_it_is_back(start):
    shards = start(2)
    for number in range(2):
        store(shards, actor=number)
    reader = RayReplayReader(shards)
    for _ in range(6):
        take(reader)
    wait_until(lambda: take(reader).keys.shard == 0, timeout_s=CALL_S, what="a batch of the first")
    batch = take(reader)
    kill(shards[0])
    check_small_batch(batch)
    for _ in range(2 * CALLS_PER_SHARD):
        take(reader)
    # It is back, and empty.
    assert {take(reader).keys.shard for _ in range(20)} == {1}
    store(shards, actor=2)
    wait_until(lambda: take(reader).keys.shard == 0, timeout_s=CALL_S, what="it gives again")
    assert reader.num_mapped == 2


def test_a_writer_loses_only_what_was_under_way_when_its_shard_died(start):
    (shard,) = start()
    writer = RayReplayWriter([shard])
    chunks = small_chunks(0, 40)
    for chunk in chunks[:20]:
        assert writer.add(chunk, timeout_s=CALL_S)
    assert writer.flush(timeout_s=CALL_S)
    kill(shard)
    for chunk in chunks[20:]:
        assert writer.add(chunk, timeout_s=CALL_S)
    assert writer.flush(timeout_s=CALL_S)
    assert writer.chunks_lost <= 4
    steps = ask(shard, "columns")["steps"]
    assert steps.tolist() == list(range(6 * (20 + writer.chunks_lost), 6 * 40))


def test_nothing_is_left_of_readers_that_are_killed(start):
    (shard,) = start()
    reader = RemoteFarReader.remote([shard])
    reader.sample.remote(1)
    wait_until(lambda: ask(shard, "has_a_sampler_waiting"), timeout_s=CALL_S, what="it waits")
    ray.kill(reader)
    store([shard])
    before = None
    for _ in range(2):
        reader = RemoteFarReader.remote([shard])
        num_mapped, _ = ray.get(reader.sample.remote(6), timeout=CALL_S)
        assert num_mapped == 1
        ray.kill(reader)
        wait_until(
            lambda: ask(shard, "num_channels") == 0, timeout_s=CALL_S, what="the channel ends"
        )
        descriptors = ask(shard, "num_descriptors")
        before = before or descriptors
    # Ray opens and closes some of its own.
    assert descriptors < before + 3
