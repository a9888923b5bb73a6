"""Which shard a chunk goes to, and batches from the shards in turn."""

from __future__ import annotations

import numpy as np
from replay_chunks import EpisodeWriter, chunk_of, make_spec

from replay.client import LocalReplayClient, shard_of
from replay.config import ReplayConfig
from replay.shard import ReplayShard
from replay.types import PriorityUpdate


def make_shards(number: int, **overrides) -> list[ReplayShard]:
    values = {
        "batch_size": 4,
        "min_size_per_game": 4,
        "samples_per_insert": 1.0,
        "samples_per_insert_cap": 1.0,
        "error_buffer": 1000.0,
        "capacity_per_game": 64,
    }
    config = ReplayConfig(**(values | overrides))
    return [ReplayShard(config, [make_spec()], shard=index) for index in range(number)]


def test_all_chunks_of_an_actor_go_to_one_shard_and_actors_are_spread_over_all():
    for actor in range(6):
        writer = EpisodeWriter(actor=actor)
        chunks = [chunk_of(writer.play(env, "..")) for env in (0, 1, 7)]
        assert {shard_of(chunk, 3) for chunk in chunks} == {actor % 3}
        assert {shard_of(chunk, 1) for chunk in chunks} == {0}


def test_chunks_are_stored_by_their_shard_alone():
    shards = make_shards(2)
    client = LocalReplayClient(shards)
    for actor, num_chunks in ((0, 1), (1, 2), (2, 3)):
        writer = EpisodeWriter(actor=actor)
        for _ in range(num_chunks):
            assert client.add(chunk_of(writer.play(0, "..")), timeout_s=0.0)
    assert [stats.tables["pong"].size for stats in LocalReplayClient(shards).stats()] == [8, 4]


def test_batches_come_from_the_shards_in_turn_and_from_the_others_when_one_has_none():
    shards = make_shards(3)
    client = LocalReplayClient(shards)
    assert client.sample() is None
    for actor, num_steps in ((0, 8), (2, 12)):  # Shard 1 gets nothing.
        assert client.add(chunk_of(EpisodeWriter(actor=actor).play(0, "." * num_steps)))
    batches = []
    while (batch := client.sample()) is not None:
        batches.append(batch.keys.shard)
    # The caps allow as many draws as there are transitions: two and three batches of four.
    assert batches == [0, 2, 0, 2, 2]


def test_new_priorities_go_to_the_shard_that_gave_the_batch():
    shards = make_shards(2)
    client = LocalReplayClient(shards)
    for actor in range(2):
        assert client.add(chunk_of(EpisodeWriter(actor=actor).play(0, "....")))
    client.sample()
    batch = client.sample()
    assert batch.keys.shard == 1
    client.update_priorities(
        PriorityUpdate(keys=batch.keys, priorities=np.full(4, 7.0, np.float32))
    )
    assert shards[1]._tables[0].ring["priorities"].max() == 7.0
    assert shards[0]._tables[0].ring["priorities"].max() == 1.0


def test_chunk_that_must_wait_is_not_taken():
    (shard,) = make_shards(1, samples_per_insert_cap=1.0, error_buffer=8.0)
    client = LocalReplayClient([shard])
    writer = EpisodeWriter()
    taken = [client.add(chunk_of(writer.play(0, "...."))) for _ in range(4)]
    assert taken == [True, True, True, False]
    assert client.stats()[0].tables["pong"].size == 12
