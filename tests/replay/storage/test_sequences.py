"""Sequences of consecutive steps: where they end, where they begin, and how often they come."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from replay_chunks import EpisodeWriter, chunk_of, make_spec
from sampler_cases import build_case

from replay.config import ReplayConfig
from replay.shard import ReplayShard
from replay.storage.sequences import follow, gather_sequences
from replay.storage.table import ReplayTable


def make_table(*, sampler: str = "uniform", **spec) -> ReplayTable:
    shape = make_spec(**spec)
    return ReplayTable(
        shape, sampler=build_case(sampler, shape.capacity), rng=np.random.default_rng(0)
    )


def sequence_from(table: ReplayTable, slot: int, *, length: int, burn_in: int = 0):
    return follow(
        table.ring, np.array([slot]), np.ones(1, np.float32), length=length, burn_in=burn_in
    )


def test_sequence_ends_with_the_game_and_has_nothing_to_bootstrap_from():
    table = make_table(num_stack=1)
    table.add(chunk_of(EpisodeWriter().play(0, "..e...")))
    found = sequence_from(table, 1, length=4)
    assert found.slots.tolist() == [[1, 2, -1, -1]]
    assert found.bootstrap_slots.tolist() == [-1]
    assert found.lengths.tolist() == [2]


def test_sequence_goes_on_after_a_lost_life_with_discount_0_there():
    table = make_table(num_stack=1)
    table.add(chunk_of(EpisodeWriter().play(0, ".l..")))
    found = sequence_from(table, 0, length=3)
    assert found.slots.tolist() == [[0, 1, 2]]
    assert found.bootstrap_slots.tolist() == [3]
    batch = gather_sequences(table.ring, found, shard=0, game_index=0)
    assert batch.discounts.tolist() == [[1.0, 0.0, 1.0]]


def test_truncated_episode_gives_its_last_observation_to_bootstrap_from():
    table = make_table(num_stack=1)
    table.add(chunk_of(EpisodeWriter().play(0, ".t..")))
    found = sequence_from(table, 0, length=4)
    assert found.slots.tolist() == [[0, 1, -1, -1]]
    assert found.bootstrap_slots.tolist() == [2]  # An entry, but no transition.
    # Also where the sequence is exactly as long as the episode.
    assert sequence_from(table, 0, length=2).bootstrap_slots.tolist() == [2]


def test_sequence_ends_at_a_lost_step_and_at_the_newest_one():
    table = make_table(num_stack=1)
    writer = EpisodeWriter()
    table.add(chunk_of(writer.play(0, "..")))
    writer.play(0, ".")  # Never arrives.
    table.add(chunk_of(writer.play(0, "...")))
    found = sequence_from(table, 0, length=5)
    assert found.slots.tolist() == [[0, 1, -1, -1, -1]]
    assert found.bootstrap_slots.tolist() == [-1]
    found = sequence_from(table, 3, length=5)
    assert found.slots.tolist() == [[3, 4, -1, -1, -1]]
    assert found.bootstrap_slots.tolist() == [-1]
    assert not gather_sequences(table.ring, found, shard=0, game_index=0).can_bootstrap[0]


def test_sequence_follows_its_stream_through_slots_of_others_and_around_the_ring():
    table = make_table(num_stack=1, capacity=8)
    writer = EpisodeWriter()
    for _ in range(3):
        table.add(chunk_of([*writer.play(0, ".."), *writer.play(1, "..")]))
    # Slots hold, of streams 0 and 1, the third round in 0..3 and the second one in 4..7.
    found = sequence_from(table, 4, length=6)
    assert found.slots.tolist() == [[4, 5, 0, 1, -1, -1]]


def test_burn_in_stops_where_the_episode_begins_and_is_aligned_with_the_drawn_step():
    table = make_table(num_stack=2)
    table.add(chunk_of(EpisodeWriter().play(0, ".e....")))
    found = sequence_from(table, 3, length=2, burn_in=3)
    assert found.slots.tolist() == [[-1, -1, 2, 3, 4]]
    assert found.lengths.tolist() == [2]
    assert found.learning_slots.tolist() == [3, 4]


def test_burn_in_leaves_out_steps_that_lack_a_frame():
    table = make_table(num_stack=3, capacity=12)
    writer = EpisodeWriter()
    for _ in range(4):
        table.add(chunk_of(writer.play(0, "....")))  # The fourth overwrites slots 0 to 3.
    found = sequence_from(table, 8, length=1, burn_in=8)
    # Of slots 4 and 5 frames are gone.
    assert found.slots.tolist() == [[-1, -1, -1, -1, -1, -1, 6, 7, 8]]


def test_every_learning_step_counts_as_sampled_and_no_step_of_the_burn_in():
    table = make_table(num_stack=1, capacity=8)
    writer = EpisodeWriter()
    table.add(chunk_of(writer.play(0, "...e")))
    found = table.sample_sequences(50, 2, burn_in=3)
    assert table.counts.sampled == found.lengths.sum() == (found.slots[:, 3:] >= 0).sum()
    times = table.times_sampled(np.arange(4))
    assert times.tolist() == np.bincount(found.learning_slots, minlength=4).tolist()


@pytest.mark.parametrize("sampler", ["uniform", "proportional", "rank"])
def test_sequences_are_drawn_like_the_transitions_they_begin_with(sampler):
    def table():
        made = make_table(sampler=sampler, num_stack=1)
        priorities = np.random.default_rng(1).uniform(0.1, 2, 12)
        writer = EpisodeWriter()
        made.add(chunk_of([e for p in priorities for e in writer.play(0, ".", priority=p)]))
        return made

    drawn = table().sample(40)
    found = table().sample_sequences(40, 3)
    assert found.slots[:, 0].tolist() == drawn.slots.tolist()
    assert found.inverse_probabilities.tolist() == drawn.inverse_probabilities.tolist()


def test_keys_of_sequences_are_good_for_new_priorities():
    table = make_table(sampler="proportional", num_stack=1)
    table.add(chunk_of(EpisodeWriter().play(0, "......")))
    batch = gather_sequences(table.ring, table.sample_sequences(6, 2), shard=2, game_index=5)
    keys = batch.keys
    assert keys.shard == 2
    assert keys.game_index.tolist() == [5] * 6
    table.update_priorities(keys.slots, keys.generations, np.full(6, 3.0, np.float32))
    assert table.ring.priorities[keys.slots].tolist() == [3.0] * 6
    assert table.counts.stale_priorities == 0


@pytest.mark.parametrize(("num", "length", "burn_in"), [(0, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_numbers_that_make_no_sense_are_refused(num, length, burn_in):
    table = make_table(num_stack=1)
    table.add(chunk_of(EpisodeWriter().play(0, "..")))
    with pytest.raises(ValueError, match=f"cannot draw {num} sequences of {length} steps"):
        table.sample_sequences(num, length, burn_in=burn_in)
    assert table.counts.sampled == 0


def test_sequences_of_an_empty_table_are_refused():
    with pytest.raises(ValueError, match="no transition of pong can be sampled yet"):
        make_table().sample_sequences(2, 3)


# Of a shard


def make_shard(*, clock=time.monotonic, **overrides) -> tuple[ReplayShard, EpisodeWriter]:
    settings = {
        "batch_size": 4,
        "capacity_per_game": 64,
        "min_size_per_game": 4,
        "samples_per_insert": 1.0,
        "samples_per_insert_cap": 100.0,
        "error_buffer": 20.0,
    }
    config = ReplayConfig(**(settings | overrides))
    specs = [make_spec(game="pong", num_stack=1), make_spec(game="boxing", num_stack=1)]
    return ReplayShard(config, specs, shard=7, clock=clock), EpisodeWriter()


def test_sequences_of_a_shard_are_of_the_game_that_is_asked_for():
    shard, writer = make_shard()
    assert shard.sample_sequences("boxing", 2, 2) is None  # Learning has not begun.
    for game in ("pong", "boxing"):
        assert shard.add(chunk_of(writer.play(0, "...."), game=game))
    batch = shard.sample_sequences("boxing", 3, 2, burn_in=1)
    assert batch.game == "boxing"
    assert batch.observations.shape[:2] == (3, 3)
    assert (batch.keys.shard, set(batch.keys.game_index.tolist())) == (7, {1})
    shard.check_valid()


def test_sequences_count_as_bytes_drawn_and_as_time_at_work():
    seconds = itertools.count()
    shard, writer = make_shard(clock=lambda: float(next(seconds)))
    for game in ("pong", "boxing"):
        assert shard.add(chunk_of(writer.play(0, "...."), game=game))
    before = shard.stats()
    batch = shard.sample_sequences("boxing", 3, 2, burn_in=1)
    after = shard.stats()
    assert after.busy_s - before.busy_s == 1.0
    assert after.batch_bytes == batch.num_bytes
    # Frames alone: three sequences of three steps, and what follows each.
    assert batch.num_bytes > batch.observations.nbytes + batch.bootstrap_observations.nbytes == 48


@pytest.mark.parametrize("pinned", [False, True])
def test_learning_steps_of_sequences_count_as_samples_and_are_paced_as_such(pinned):
    shard, writer = make_shard(pin_every_game=pinned)
    for game in ("pong", "boxing"):
        assert shard.add(chunk_of(writer.play(0, "...."), game=game))
    drawn = 0
    while (batch := shard.sample_sequences("pong", 2, 3)) is not None:
        drawn += int(batch.lengths.sum())
    stats = shard.stats()
    assert stats.tables["pong"].counts.sampled == drawn
    # As long as all 6 steps might have been there, they must not have gone beyond the band.
    assert 14 < drawn <= 20
    assert stats.limiter_error == -drawn
    for _ in range(4):
        assert shard.add(chunk_of(writer.play(0, "...."), game="pong"))
    assert shard.sample_sequences("pong", 2, 3) is not None


def test_cap_of_a_game_holds_for_its_sequences():
    shard, writer = make_shard(samples_per_insert_cap=2.0, error_buffer=1_000.0)
    for game in ("pong", "boxing"):
        assert shard.add(chunk_of(writer.play(0, "...."), game=game))
    drawn = 0
    while (batch := shard.sample_sequences("pong", 1, 1)) is not None:
        drawn += int(batch.lengths.sum())
    assert drawn == 8
    assert shard.sample_sequences("boxing", 1, 1) is not None


@pytest.mark.parametrize(
    ("game", "numbers", "message"),
    [
        ("tennis", (1, 1), "holds pong, boxing; not 'tennis'"),
        ("pong", (0, 1), "cannot draw 0 sequences"),
        ("pong", (100, 10), "band is too narrow"),
        ("pong", (1, 10**9), "from a table of"),
    ],
)
def test_sequences_that_can_never_be_drawn_are_refused_at_once(game, numbers, message):
    shard, _ = make_shard()
    with pytest.raises(ValueError, match=message):
        shard.sample_sequences(game, *numbers)


def test_a_burn_in_beyond_the_table_is_refused_and_one_beyond_the_episode_ends_with_it():
    shard, writer = make_shard()
    capacity = shard.specs[0].capacity
    with pytest.raises(ValueError, match=f"from a table of {capacity}; neither can be more"):
        shard.sample_sequences("pong", 1, 1, burn_in=capacity + 1)
    for game in ("pong", "boxing"):
        assert shard.add(chunk_of(writer.play(0, "...."), game=game))
    batch = shard.sample_sequences("pong", 1, 1, burn_in=capacity)
    assert batch.is_step[:, -1].all()
    assert not batch.is_step[:, : capacity - 3].any()  # Its last step has three before it.
    shard.check_valid()
