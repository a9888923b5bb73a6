"""The fakes keep the same promises as the clients that they stand in for."""

import pytest
from client_contracts import REPLAY_CONTRACT, WEIGHTS_CONTRACT, ReplayUnderTest
from fakes import FakeReplay, FakeWeights

from networks.weights import LocalWeights
from replay.client import LocalReplayClient
from replay.config import ReplayConfig
from replay.shard import ReplayShard


def make_local(tables, batch_size, num_shards=1):
    config = ReplayConfig(
        batch_size=batch_size,
        capacity_per_game=tables[0].capacity,
        min_size_per_game=20,
        samples_per_insert=1.0,
        samples_per_insert_cap=8.0,
        error_buffer=400.0,
        num_shards=num_shards,
    )
    shards = [ReplayShard(config, tables, shard=index, seed=3) for index in range(num_shards)]

    def close():
        for shard in shards:
            shard.close()

    return ReplayUnderTest(LocalReplayClient(shards), close)


def make_fake(tables, batch_size):
    def accepts():
        stored = sum(chunk.num_transitions for chunk in replay.chunks)
        return stored - batch_size * replay.tape.names.count("sample") < 400

    replay = FakeReplay(tables, batch_size=batch_size, accepts=accepts)
    return ReplayUnderTest(replay, replay.close)


@pytest.mark.parametrize("make", [make_local, make_fake])
@pytest.mark.parametrize("check", REPLAY_CONTRACT)
def test_replay_keeps_its_promises(make, check):
    check(make)


@pytest.mark.parametrize("make", [LocalWeights, FakeWeights])
@pytest.mark.parametrize("check", WEIGHTS_CONTRACT)
def test_weights_keep_their_promises(make, check):
    check(make)
