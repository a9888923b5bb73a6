"""Sequences of consecutive steps: where they end, where they begin, and how often they come."""

from __future__ import annotations

import time

import numpy as np
import pytest
from replay_chunks import EpisodeWriter, chunk_of, make_spec
from sampler_cases import build_case

from replay.config import ReplayConfig
from replay.shard import ReplayShard
from replay.storage.table import ReplayTable, follow


def make_table(*, sampler: str = "uniform", **spec) -> ReplayTable:
    shape = make_spec(**spec)
    return ReplayTable(
        shape, sampler=build_case(sampler, shape.capacity), rng=np.random.default_rng(0)
    )


def sequence_from(table: ReplayTable, slot: int, *, length: int):
    return follow(table.ring.links, np.array([slot]), length=length)


def test_sequence_ends_with_the_game_and_has_nothing_to_bootstrap_from():
    table = make_table(num_stack=1)
    table.add(chunk_of(EpisodeWriter().play(0, "..e...")))
    found = sequence_from(table, 1, length=4)
    assert found.slots.tolist() == [[1, 2, 2, 2]]
    assert found.bootstrap_slots.tolist() == [-1]
    assert found.num_steps.tolist() == [2]


def test_sequence_goes_on_after_a_lost_life_with_discount_0_there():
    table = make_table(num_stack=1)
    table.add(chunk_of(EpisodeWriter().play(0, ".l..")))
    found = sequence_from(table, 0, length=3)
    assert found.slots.tolist() == [[0, 1, 2]]
    assert found.bootstrap_slots.tolist() == [3]
    assert table.ring["discounts"][found.slots].tolist() == [[1.0, 0.0, 1.0]]


def test_truncated_episode_gives_its_last_observation_to_bootstrap_from():
    table = make_table(num_stack=1)
    table.add(chunk_of(EpisodeWriter().play(0, ".t..")))
    found = sequence_from(table, 0, length=4)
    assert found.slots.tolist() == [[0, 1, 1, 1]]
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
    assert found.slots.tolist() == [[0, 1, 1, 1, 1]]
    assert found.bootstrap_slots.tolist() == [-1]
    found = sequence_from(table, 3, length=5)
    assert found.slots.tolist() == [[3, 4, 4, 4, 4]]
    assert found.bootstrap_slots.tolist() == [-1]


def test_sequence_follows_its_stream_through_slots_of_others_and_around_the_ring():
    table = make_table(num_stack=1, capacity=8)
    writer = EpisodeWriter()
    for _ in range(3):
        table.add(chunk_of([*writer.play(0, ".."), *writer.play(1, "..")]))
    # Slots hold, of streams 0 and 1, the third round in 0..3 and the second one in 4..7.
    found = sequence_from(table, 4, length=6)
    assert found.slots.tolist() == [[4, 5, 0, 1, 1, 1]]


def test_a_transition_is_drawn_only_when_its_sequence_is_here_with_what_follows():
    table = make_table(num_stack=1, sequence_length=3)
    writer = EpisodeWriter()
    table.add(chunk_of(writer.play(0, "...")))
    assert table.num_ready == 0
    table.add(chunk_of(writer.play(0, "..")))
    assert set(table.sample(30).slots.reshape(-1, 3)[:, 0].tolist()) == {0, 1}
    table.add(chunk_of(writer.play(0, "e")))  # After which nothing is to come.
    assert table.num_ready == 6


def test_every_step_counts_as_sampled_and_no_repetition():
    table = make_table(num_stack=1, capacity=8, sequence_length=2)
    table.add(chunk_of(EpisodeWriter().play(0, "...e")))
    found = table.sample(100)
    slots = found.slots[found.generations >= 0]
    assert table.counts.sampled == found.num_steps == len(slots)
    assert 50 < len(slots) < 100
    assert table.times_sampled(np.arange(4)).tolist() == np.bincount(slots, minlength=4).tolist()


@pytest.mark.parametrize("sampler", ["uniform", "proportional", "rank"])
def test_sequences_are_drawn_like_the_transitions_they_begin_with(sampler):
    def table(**spec):
        made = make_table(sampler=sampler, num_stack=1, **spec)
        priorities = np.random.default_rng(1).uniform(0.1, 2, 12)
        writer = EpisodeWriter()
        made.add(chunk_of([e for p in priorities for e in writer.play(0, ".", priority=p)]))
        return made

    # Three successors make the same transitions ready.
    drawn = table(num_successors=3).sample(40)
    found = table(sequence_length=3).sample(120)
    assert found.slots[::3].tolist() == drawn.slots.tolist()
    assert found.inverse_probabilities.tolist() == drawn.inverse_probabilities.repeat(3).tolist()


def test_keys_of_repetitions_are_nobodys_and_no_stale_ones():
    table = make_table(sampler="proportional", num_stack=1, sequence_length=4)
    table.add(chunk_of(EpisodeWriter().play(0, "...e")))
    found = table.sample(400)
    priorities = np.where(found.generations >= 0, 3.0, 9.0).astype(np.float32)
    table.update_priorities(found.generations, priorities)
    assert table.ring["priorities"][:4].tolist() == [3.0] * 4
    assert table.counts.stale_priorities == 0
    table.check_valid()


# Batches of a shard


def make_shard(*, length: int = 3, clock=time.monotonic, **overrides) -> ReplayShard:
    settings = {
        "batch_size": 12,
        "capacity_per_game": 64,
        "min_size_per_game": 1,
        "samples_per_insert": 1.0,
        "samples_per_insert_cap": 100.0,
        "error_buffer": 40.0,
    }
    specs = [
        make_spec(game=game, num_stack=1, sequence_length=length) for game in ("pong", "boxing")
    ]
    return ReplayShard(ReplayConfig(**(settings | overrides)), specs, shard=7, clock=clock)


def fill(shard: ReplayShard, events: str = "......") -> None:
    for actor, game in enumerate(shard.games):
        assert shard.add(chunk_of(EpisodeWriter(actor=actor).play(0, events), game=game))


def test_a_batch_of_sequences_holds_steps_one_after_the_other_of_every_game():
    shard = make_shard()
    fill(shard)
    batch = shard.sample()
    assert batch.game_index.tolist() == [0] * 6 + [1] * 6
    serials = (batch["teacher_values"] - 0.5).reshape(4, 3)
    assert (np.diff(serials, axis=1) == 1).all()
    np.testing.assert_array_equal(batch["rewards"].reshape(4, 3), serials - 100.0)
    assert batch.sequences.num_steps.tolist() == [3] * 4
    assert batch.sequences.can_bootstrap.all()
    after = batch.sequences.bootstrap_observations.reshape(4, 4).view("<u4")[:, 0]
    np.testing.assert_array_equal(after, serials[:, -1] + 2)  # A frame shows 1 + the serial.
    assert batch.loss_weights.tolist() == [1.0] * 12
    shard.check_valid()


def test_steps_of_a_sequence_that_ended_early_weigh_as_much_as_the_repetitions_would():
    shard = make_shard(length=4, batch_size=16)
    fill(shard, "..e..e")
    batch = shard.sample()
    is_step = batch.sequences.is_step.reshape(-1)
    assert 0 < is_step.sum() < 16
    assert not batch.loss_weights[~is_step].any()
    np.testing.assert_allclose(batch.loss_weights.mean(), 1.0, rtol=1e-6)
    by_game = np.bincount(batch.game_index, weights=batch.loss_weights)
    np.testing.assert_allclose(by_game, [8.0, 8.0], rtol=1e-6)
    serials = batch["teacher_values"].reshape(4, 4)
    for row, num in enumerate(batch.sequences.num_steps.tolist()):
        assert (serials[row, num:] == serials[row, num - 1]).all()
