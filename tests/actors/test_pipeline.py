"""From environments through actors and replay: nothing is lost, doubled, re-ordered or mixed up."""

import threading

import counting
import numpy as np
import pytest
from counting import SCHEDULES, expected_entries, game_id
from counting_checks import check_batch
from fakes import FakeWeights
from players import TagNetwork, TagTeacher, table_spec
from replay_chunks import make_settings

from actors.actor import Actor
from actors.config import ActorConfig
from actors.inference import OwnInference
from actors.priorities import TdError
from games.registry import make_vector_env
from networks.snapshots import take_snapshot
from networks.weights import LocalWeights, WeightsVersion
from replay.client import LocalReplayClient
from replay.config import ReplayConfig
from replay.shard import ReplayShard
from replay.types import PriorityUpdate

SPECS = (counting.ENDS, counting.CUTS, counting.LIVES)
NUM_ENVS = 3
CHUNK_STEPS = 7
GAMMA = 0.9


def build_actors(replay, *, num_successors, weights=None, actors_per_game=2):
    """Two actors of every game; the serial number is also the seed in the frames."""
    actors = []
    for spec in SPECS:
        for _ in range(actors_per_game):
            serial = len(actors)
            rule = TdError(
                spec.legal_mask(), num_steps=max(1, num_successors), gamma=GAMMA, reward_clip=1.0
            )
            actors.append(
                Actor(
                    ActorConfig(num_envs=NUM_ENVS, chunk_steps=CHUNK_STEPS),
                    env=make_vector_env(spec, num_envs=NUM_ENVS, protocol="classic", seed=serial),
                    inference=OwnInference(TagNetwork(), weights or FakeWeights()),
                    teachers=(TagTeacher(spec),),
                    store_features=True,
                    priority_rule=rule,
                    epsilons=np.full(NUM_ENVS, 0.5, np.float32),
                    life_loss_ends_return=True,
                    replay=replay,
                    serial=serial,
                    seed=9,
                )
            )
    return actors


def tables(num_successors, capacity):
    return [
        table_spec(
            spec,
            capacity=capacity,
            num_teacher_actions=spec.num_actions,
            num_teacher_features=TagTeacher.num_features,
            num_successors=num_successors,
        )
        for spec in SPECS
    ]


def build_shards(num_successors, *, batch_size, capacity=2_000, num_shards=1, **settings):
    config = ReplayConfig(
        batch_size=batch_size,
        capacity_per_game=capacity,
        num_shards=num_shards,
        **{"min_size_per_game": 1, "samples_per_insert_cap": 1e6, "error_buffer": 1e6, **settings},
    )
    specs = tables(num_successors, capacity // num_shards)
    return [ReplayShard(config, specs, shard=index, seed=4) for index in range(num_shards)]


def sampleable(spec, serials, *, num_rows, num_successors):
    """(game, seed, env, episode, step, clock) of all that replay can draw by now."""
    found = set()
    for serial in serials:
        for env in range(NUM_ENVS):
            entries = expected_entries(SCHEDULES[spec.name], env, num_rows=num_rows)
            for index, entry in enumerate(entries):
                if entry.is_transition and _has_future(entries, index, num_successors):
                    found.add(
                        (game_id(spec.name), serial, env, entry.episode, entry.step, entry.clock)
                    )
    return found


def _has_future(entries, index, num_successors):
    for offset in range(num_successors):
        if index + offset >= len(entries):
            return False
        entry = entries[index + offset]
        if not entry.is_transition or entry.discount(life_loss_ends_return=True) == 0:
            return True
    return index + num_successors < len(entries)


@pytest.mark.parametrize("num_successors", [0, 1, 3])
def test_every_transition_that_was_played_can_be_drawn_and_is_as_it_was_played(num_successors):
    num_chunks = 9
    # Actors hold back as many rows as the first priority needs.
    num_rows = num_chunks * CHUNK_STEPS - max(1, num_successors)
    expected = [
        sampleable(spec, (2 * game, 2 * game + 1), num_rows=num_rows, num_successors=num_successors)
        for game, spec in enumerate(SPECS)
    ]
    sizes = [len(part) for part in expected]
    config = ReplayConfig(
        # A uniform draw of as many as there are, one from each equal part, gives each one once.
        batch_size=sum(sizes),
        priority_exponent=0.0,
        min_size_per_game=min(sizes),
        capacity_per_game=2_000,
        samples_per_insert_cap=1e6,
        error_buffer=1e6,
    )
    specs = tables(num_successors, 2_000)
    shares = {spec.name: size for spec, size in zip(SPECS, sizes, strict=True)}
    shard = ReplayShard(config, specs, settings=make_settings(config, specs, shares))
    replay = LocalReplayClient([shard])
    actors = build_actors(replay, num_successors=num_successors)
    for _ in range(num_chunks):
        for actor in actors:
            assert replay.add(actor.collect())
    shard.check_valid()
    assert [table.ready for table in shard.stats().tables.values()] == sizes

    batch = replay.sample()
    tags = check_batch(batch, SCHEDULES, life_loss_ends_return=True)
    drawn = [tags.tuple_at(row) for row in range(batch.batch_size)]
    assert set(drawn) == set().union(*expected)
    assert len(drawn) == len(set(drawn))
    for row, clock in enumerate(tags.clock.tolist()):
        assert batch["student_logits"][row].tolist() == TagNetwork().scores(clock).tolist()
        assert batch["teacher_values"][row] == clock


@pytest.mark.parametrize("num_successors", [0, 2])
@pytest.mark.parametrize("num_shards", [1, 3])
def test_what_is_drawn_is_right_while_old_entries_are_overwritten(num_successors, num_shards):
    shards = build_shards(
        num_successors, batch_size=24, capacity=150 * num_shards, num_shards=num_shards
    )
    replay = LocalReplayClient(shards)
    # Serial numbers are dealt out in turn, so every shard gets an actor of every game.
    actors = build_actors(replay, num_successors=num_successors, actors_per_game=num_shards)
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(25):
        for actor in actors:
            assert replay.add(actor.collect())
        for _ in range(num_shards):
            batch = replay.sample()
            tags = check_batch(batch, SCHEDULES, life_loss_ends_return=True)
            seen |= {tags.tuple_at(row)[:3] for row in range(batch.batch_size)}
            priorities = rng.exponential(size=24).astype(np.float32)
            replay.update_priorities(PriorityUpdate(keys=batch.keys, priorities=priorities))
    for shard in shards:
        shard.check_valid()
        for table in shard.stats().tables.values():
            assert table.size == 150
            assert table.counts.overwritten_unsampled > 0
    assert len(seen) == len(SPECS) * num_shards * NUM_ENVS


def test_a_lost_chunk_leaves_a_gap_and_no_wrong_stack_or_successor():
    shards = build_shards(2, batch_size=24)
    replay = LocalReplayClient(shards)
    actors = build_actors(replay, num_successors=2)
    for turn in range(20):
        for index, actor in enumerate(actors):
            chunk = actor.collect()
            if (turn + index) % 4:
                assert replay.add(chunk)
    for shard in shards:
        shard.check_valid()
    for _ in range(30):
        check_batch(replay.sample(), SCHEDULES, life_loss_ends_return=True)


def test_actors_in_threads_and_a_learner_that_holds_the_pace():
    shards = build_shards(
        1,
        batch_size=32,
        min_size_per_game=100,
        samples_per_insert=2.0,
        samples_per_insert_cap=8.0,
        error_buffer=256.0,
    )
    weights = LocalWeights()
    replay = WaitingClient(shards[0])
    actors = build_actors(replay, num_successors=1, weights=weights)
    learned = TagNetwork()
    weights.publish(take_snapshot(learned, WeightsVersion(0, 0)))
    threads = [threading.Thread(target=a.run, kwargs={"wait_s": 0.05}) for a in actors]
    for thread in threads:
        thread.start()
    drawn = {}
    try:
        for update in range(60):
            batch = shards[0].sample(timeout_s=30.0)
            assert batch is not None, "actors do not deliver"
            tags = check_batch(batch, SCHEDULES, life_loss_ends_return=True)
            for row, version in enumerate(batch["weights_versions"].tolist()):
                drawn.setdefault(tags.tuple_at(row)[:3], []).append((int(tags.clock[row]), version))
            if update % 5 == 0:
                weights.publish(take_snapshot(learned, WeightsVersion(0, update + 1)))
    finally:
        for actor in actors:
            actor.close()
        shards[0].close()
        for thread in threads:
            thread.join(30.0)
    assert not any(thread.is_alive() for thread in threads)
    shards[0].check_valid()
    for pairs in drawn.values():
        versions = [version for _, version in sorted(pairs)]
        assert versions == sorted(versions), "a version decreases along a stream"
    assert max(version for pairs in drawn.values() for _, version in pairs) > 0
    assert abs(shards[0].stats().limiter_error) <= 256.0


class WaitingClient:
    """An actor's side of one shard, with the shard's own bounded waiting."""

    def __init__(self, shard):
        self._shard = shard

    def add(self, chunk, *, timeout_s):
        return self._shard.add(chunk, timeout_s=timeout_s)
