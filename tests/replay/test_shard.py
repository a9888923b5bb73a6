"""Batches of a shard: contents, shares, caps, pace, start, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_chunks import Entry, EpisodeWriter, chunk_of, make_settings, make_spec, with_array
from replay_model import SlowTable
from replay_shards import make_config
from replay_shards import make_shard as shard_of

from replay.shard import ReplayShard
from replay.types import Chunk, PriorityUpdate, SampleBatch

THREE = ("pong", "boxing", "breakout")


def make_shard(games=THREE, **options) -> ReplayShard:
    return shard_of(games, **options)


def play(shard: ReplayShard, writer: EpisodeWriter, game: str, events: str = "....") -> list[Entry]:
    """Add steps that fit into one chunk; they must be taken."""
    entries = writer.play(0, events)
    assert shard.add(chunk_of(entries, game=game))
    return entries


def filled_shard(games=("pong", "boxing", "breakout"), **kwargs) -> ReplayShard:
    """A shard with 16 transitions of each game."""
    shard = make_shard(games, **kwargs)
    for actor, game in enumerate(games):
        writer = EpisodeWriter(actor=actor)
        for _ in range(4):
            play(shard, writer, game)
    return shard


def counts_of(batch: SampleBatch) -> list[int]:
    return np.bincount(batch.game_index, minlength=len(batch.games)).tolist()


@pytest.mark.parametrize("num_successors", [0, 3])
def test_batch_holds_what_a_slow_table_holds_under_its_keys(num_successors):
    games = ("pong", "boxing")
    specs = [
        make_spec(game="pong", capacity=20, num_stack=3, num_successors=num_successors),
        make_spec(
            game="boxing",
            capacity=20,
            num_stack=3,
            num_successors=num_successors,
            num_teacher_features=5,
        ),
    ]
    shard = ReplayShard(make_config(), specs, shard=3, seed=1)
    models = [SlowTable(spec) for spec in specs]
    writers = [EpisodeWriter(actor=actor) for actor in range(2)]
    versions: list[list[int]] = [[], []]
    rng = np.random.default_rng(0)
    num_batches = 0
    for turn in range(40):
        index = turn % 2
        events = ["".join(rng.choice(list("......let"), 3)) for _ in range(2)]
        entries = [
            e
            for env in range(2)
            for e in writers[index].play(env, events[env], priority=1.0 + turn % 3)
        ][:10]
        chunk = chunk_of(
            entries,
            game=games[index],
            num_teacher_features=specs[index].entry.num_teacher_features,
            weights_version=turn,
        )
        assert shard.add(chunk)
        models[index].add(entries)
        versions[index] += [turn] * len(entries)
        shard.check_valid()
        batch = shard.sample()
        if batch is not None:
            check_batch(batch, models, versions)
            num_batches += 1
    assert num_batches > 30


def check_batch(batch: SampleBatch, models: list[SlowTable], versions: list[list[int]]) -> None:
    """Every row is the entry that the model has under the row's key."""
    assert batch.games == ("pong", "boxing")
    assert batch.keys.shard == 3
    assert np.all(np.diff(batch.game_index) >= 0)
    assert batch["teacher_features"].shape[1] == 5
    num_rows = {len(getattr(batch.keys, name)) for name in ("game_index", "generations")}
    assert num_rows == {batch.batch_size} == {12}
    for row in range(batch.batch_size):
        model = models[batch.game_index[row]]
        generation = int(batch.keys.generations[row])
        entry = model.history[generation]
        width = model.spec.entry.num_teacher_features
        np.testing.assert_array_equal(batch.observations[row], model.observation(generation))
        assert batch["actions"][row] == entry.action
        np.testing.assert_array_equal(batch["student_logits"][row], entry.label(0.25, 3))
        np.testing.assert_array_equal(batch["teacher_logits"][row], entry.label(0.5, 3))
        np.testing.assert_array_equal(
            batch["teacher_features"][row, :width], entry.label(0.75, width)
        )
        assert not batch["teacher_features"][row, width:].any()
        assert batch["teacher_values"][row] == entry.serial + 0.5
        assert batch.ages[row] == model.num_added - 1 - generation
        assert batch["weights_versions"][row] == versions[batch.game_index[row]][generation]
        np.testing.assert_allclose(
            batch.inverse_probabilities[row], model.inverse_probability(generation), rtol=1e-6
        )
        check_successors(batch, row, model, generation)


def check_successors(batch: SampleBatch, row: int, model: SlowTable, generation: int) -> None:
    if not model.spec.num_successors:
        assert batch.successors is None
        return
    expected = model.successors(generation, model.spec.num_successors)
    length = len(expected.rewards)
    assert batch.successors.lengths[row] == length
    assert batch.successors.rewards[row, :length].tolist() == expected.rewards
    assert batch.successors.discounts[row, :length].tolist() == expected.discounts
    bootstrap = np.zeros(model.spec.observation_shape, np.uint8)
    if expected.bootstrap is not None:
        bootstrap = expected.bootstrap
    np.testing.assert_array_equal(batch.successors.bootstrap_observations[row], bootstrap)


def test_every_game_gets_exactly_its_quota():
    shard = filled_shard(shares={"pong": 1.0, "boxing": 2.0, "breakout": 3.0})
    for _ in range(5):
        batch = shard.sample()
        assert counts_of(batch) == [2, 4, 6]
        assert batch.loss_weights.tolist() == [1.0] * 12


def test_game_at_its_cap_yields_and_loss_weights_restore_the_balance():
    shard = make_shard(samples_per_insert_cap=1.0, min_size_per_game=2)
    writers = [EpisodeWriter(actor=actor) for actor in range(3)]
    play(shard, writers[0], "pong", "...")  # At most three draws.
    for _ in range(4):
        play(shard, writers[1], "boxing")
        play(shard, writers[2], "breakout")
    seen = []
    for _ in range(2):
        batch = shard.sample()
        seen.append(counts_of(batch))
        sums = np.bincount(batch.game_index, batch.loss_weights, minlength=3)
        present = sums > 0
        np.testing.assert_allclose(sums[present], 12 / present.sum(), rtol=1e-6)
        np.testing.assert_allclose(batch.loss_weights.mean(), 1.0, rtol=1e-6)
    assert seen == [[3, 5, 4], [0, 6, 6]]
    # 3 + 16 + 16 transitions were stored and 24 drawn, so a third batch would break the cap.
    assert not shard.can_sample()
    assert shard.sample() is None
    play(shard, writers[0], "pong", ".")
    assert counts_of(shard.sample()) == [1, 5, 6]
    stats = shard.stats().tables
    assert [stats[game].counts.sampled for game in shard.games] == [4, 16, 16]
    # Of its four in each batch pong gave 3, 0 and 1.
    assert [stats[game].counts.yielded for game in shard.games] == [8, 0, 0]
    shard.check_valid()


def test_learning_starts_when_every_game_has_its_minimum():
    shard = make_shard(("pong", "boxing"), min_size_per_game=5)
    pong, boxing = EpisodeWriter(actor=0), EpisodeWriter(actor=1)
    for _ in range(4):
        play(shard, pong, "pong")
    play(shard, boxing, "boxing")
    assert not shard.can_sample()
    assert shard.sample() is None
    play(shard, boxing, "boxing", ".")
    assert shard.can_sample()
    assert counts_of(shard.sample()) == [6, 6]


def test_full_table_starts_though_its_minimum_is_out_of_reach():
    # With frames cut off at the old end and successors missing at the new one, a table of 16
    # never has 16 transitions to draw.
    shard = make_shard(
        ("pong",),
        capacity_per_game=16,
        min_size_per_game=16,
        spec={"capacity": 16, "num_stack": 3, "num_successors": 2},
    )
    writer = EpisodeWriter()
    for _ in range(3):
        play(shard, writer, "pong")
        assert not shard.can_sample()
    play(shard, writer, "pong")
    assert shard.stats().tables["pong"].ready == 14
    assert shard.can_sample()


def test_inserting_and_sampling_wait_for_each_other_by_the_limiters_arithmetic():
    shard = make_shard(
        ("pong",), samples_per_insert=2.0, error_buffer=20.0, batch_size=12, min_size_per_game=4
    )
    writer = EpisodeWriter()
    play(shard, writer, "pong")  # Starts; counts for neither side.
    assert shard.stats().limiter_error == 0.0
    assert shard.sample() is not None  # -12
    assert shard.stats().limiter_error == -12.0
    assert not shard.can_sample()  # -24 would be below -20.
    assert shard.sample() is None
    for _ in range(4):
        play(shard, writer, "pong")  # -4, 4, 12, 20
    chunk = chunk_of(writer.play(0, "...."))
    assert not shard.add(chunk)
    assert shard.stats().limiter_error == 20.0
    assert shard.stats().tables["pong"].counts.inserted == 20
    assert shard.sample() is not None  # 8
    assert shard.add(chunk)


def test_only_the_sum_of_all_games_is_paced_so_that_games_do_not_block_each_other():
    shard = make_shard(("pong", "boxing"), error_buffer=40.0, samples_per_insert=1.0)
    pong, boxing = EpisodeWriter(actor=0), EpisodeWriter(actor=1)
    play(shard, pong, "pong")
    play(shard, boxing, "boxing")
    for _ in range(30):  # Boxing has stopped; pong goes on, and so does the learner.
        for _ in range(3):
            play(shard, pong, "pong")
        assert counts_of(shard.sample()) == [6, 6]
    assert shard.stats().tables["pong"].counts.overwritten_unsampled > 0


def test_pinned_games_are_held_to_the_ratio_one_by_one():
    shard = make_shard(
        ("pong", "boxing"),
        pin_every_game=True,
        error_buffer=8.0,
        samples_per_insert=1.0,
        batch_size=8,
    )
    pong, boxing = EpisodeWriter(actor=0), EpisodeWriter(actor=1)
    play(shard, pong, "pong")
    play(shard, boxing, "boxing")  # Both start at 0.
    for _ in range(2):
        play(shard, pong, "pong")  # 4, 8
    chunk = chunk_of(pong.play(0, "...."))
    assert not shard.add(chunk)  # 12 would be above 8.
    assert counts_of(shard.sample()) == [4, 4]  # 4 and -4
    assert counts_of(shard.sample()) == [4, 4]  # 0 and -8
    assert not shard.can_sample()  # Boxing would fall to -12, so pong waits with it.
    assert shard.add(chunk)


def test_caps_that_could_starve_the_learner_while_inserting_waits_are_refused():
    config = {
        "batch_size": 128,
        "samples_per_insert": 2.0,
        "samples_per_insert_cap": 2.0,
        "min_size_per_game": 1,
        "spec": {"capacity": 64},
    }
    shard = make_shard(("pong",), error_buffer=80.0, **config)
    chunk = chunk_of(EpisodeWriter().play(0, "." * 16))
    # 80 - 16 * 2 may be due, and 1 * 2 came before the start: 50 of the 128 samples of a batch.
    with pytest.raises(
        ValueError,
        match=r"48 samples that are due and 2 of what .* less than a batch of 128; .* at least 158",
    ):
        shard.add(chunk)
    assert make_shard(("pong",), error_buffer=158.0, **config).add(chunk)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    num_games=st.integers(1, 3),
    batch_size=st.integers(1, 40),
    chunk_steps=st.integers(1, 12),
    min_size=st.integers(1, 12),
    spare=st.sampled_from([0.0, 3.0, 50.0]),
    ratios=st.tuples(st.sampled_from([0.25, 1.0, 2.0, 8.0]), st.sampled_from([1.0, 1.5, 4.0])),
    pinned=st.booleans(),
    seed=st.integers(0, 3),
)
def test_accepted_settings_never_lock_both_sides_and_stay_in_the_band(
    num_games, batch_size, chunk_steps, min_size, spare, ratios, pinned, seed
):
    ratio, cap_factor = ratios
    games = ("pong", "boxing", "breakout")[:num_games]
    largest_part = math.ceil(batch_size / num_games) if pinned else batch_size
    buffer = (chunk_steps * ratio + largest_part) / 2 + spare
    shard = make_shard(
        games,
        batch_size=batch_size,
        samples_per_insert=ratio,
        samples_per_insert_cap=ratio * cap_factor,
        min_size_per_game=min_size,
        error_buffer=buffer,
        pin_every_game=pinned,
        spec={"capacity": 40, "num_stack": 1},
    )
    rng = np.random.default_rng(seed)
    writers = [EpisodeWriter(actor=actor) for actor in range(num_games)]

    def play_chunk(index: int) -> Chunk:
        # Where a game ends, chunks are shorter.
        num_steps = int(rng.integers(1, chunk_steps + 1)) if rng.random() < 0.5 else chunk_steps
        return chunk_of(writers[index].play(0, "." * num_steps), game=games[index])

    waiting = [play_chunk(index) for index in range(num_games)]
    for _ in range(60):
        order = rng.permutation(num_games).tolist()
        try:
            added = [index for index in order if shard.add(waiting[index])]
        except ValueError:
            return  # Refused, which is what this test does not look at.
        for index in added:
            waiting[index] = play_chunk(index)
        drawn = 0
        while drawn < rng.integers(1, 9) and shard.sample() is not None:
            drawn += 1
        assert added or drawn, "nothing can be added and nothing can be drawn"
        bound = buffer * (num_games if pinned else 1)
        assert -bound <= shard.stats().limiter_error <= bound
    shard.check_valid()


def test_new_priorities_reach_their_transitions_and_stale_ones_are_counted():
    shard = make_shard(("pong", "boxing"), batch_size=8, spec={"capacity": 16, "num_stack": 1})
    writers = {game: EpisodeWriter(actor=a) for a, game in enumerate(("pong", "boxing"))}
    for game, writer in writers.items():
        for _ in range(4):
            play(shard, writer, game)
    batch = shard.sample()
    for _ in range(4):
        play(shard, writers["pong"], "pong")  # All of pong is overwritten.
    priorities = np.where(batch.game_index == 1, 1e-6, 5.0).astype(np.float32)
    shard.update_priorities(PriorityUpdate(keys=batch.keys, priorities=priorities))
    shard.check_valid()
    stats = shard.stats().tables
    assert stats["pong"].counts.stale_priorities == 4
    assert stats["boxing"].counts.stale_priorities == 0
    updated = set(batch.keys.generations[batch.game_index == 1].tolist())
    for _ in range(5):
        batch = shard.sample()
        inverse = dict(
            zip(
                batch.keys.generations[batch.game_index == 1].tolist(),
                batch.inverse_probabilities[batch.game_index == 1].tolist(),
                strict=True,
            )
        )
        assert {slot for slot, value in inverse.items() if value > 1.0} <= updated


def test_keys_of_another_shard_are_refused_before_any_priority_is_set():
    shard = filled_shard(batch_size=4)
    batch = shard.sample()
    before = [table.ring["priorities"].copy() for table in shard._tables]
    update = PriorityUpdate(
        keys=replace(batch.keys, shard=1), priorities=np.full(4, 9.0, np.float32)
    )
    with pytest.raises(ValueError, match="keys of replay shard 1 were sent to shard 0"):
        shard.update_priorities(update)
    for table, priorities in zip(shard._tables, before, strict=True):
        np.testing.assert_array_equal(table.ring["priorities"], priorities)
    assert all(table.counts.stale_priorities == 0 for table in shard.stats().tables.values())


def test_one_bad_priority_of_the_last_game_leaves_the_first_game_alone():
    shard = filled_shard()
    batch = shard.sample()
    priorities = np.full(12, 9.0, np.float32)
    priorities[-1] = np.nan
    with pytest.raises(ValueError, match="must be finite and not negative"):
        shard.update_priorities(PriorityUpdate(keys=batch.keys, priorities=priorities))
    assert all(table.ring["priorities"].max() == 1.0 for table in shard._tables)
    shard.check_valid()


def test_bad_chunk_is_refused_at_once_even_while_inserting_must_wait():
    shard = make_shard(("pong",), error_buffer=10.0, batch_size=4)
    writer = EpisodeWriter()
    while shard.add(chunk := chunk_of(writer.play(0, "...."))):
        pass
    before = shard.stats()
    bad = with_array(chunk, "priorities", np.full(4, np.nan, np.float32))
    with pytest.raises(ValueError, match="priorities must be finite"):
        shard.add(bad, timeout_s=60.0)
    assert shard.stats() == before


@pytest.mark.parametrize(
    ("specs", "shares", "message"),
    [
        ([], None, "at least one game"),
        ([make_spec(), make_spec()], None, "two tables of one game: pong, pong"),
        ([make_spec()], {"boxing": 1.0}, "this replay holds pong; not 'boxing'"),
        ([make_spec()], {"pong": 0.0}, "the share of pong must be positive and finite, got 0.0"),
        (
            [make_spec(), make_spec(game="boxing", num_stack=4)],
            None,
            r"pong and boxing do not fit into one batch: observation_shape is \(2, 2, 2\) and",
        ),
        (
            [make_spec(), make_spec(game="boxing", num_actions=5)],
            None,
            "num_actions is 3 and 5",
        ),
        (
            [make_spec(), make_spec(game="boxing", num_teacher_actions=0)],
            None,
            "num_teacher_actions is 3 and 0",
        ),
        (
            [make_spec(), make_spec(game="boxing", num_successors=3)],
            None,
            "num_successors is 0 and 3",
        ),
        (
            [make_spec(), make_spec(game="boxing", sequence_length=3)],
            None,
            "sequence_length is 1 and 3",
        ),
    ],
)
def test_tables_that_make_no_batch_are_refused(specs, shares, message):
    settings = make_settings(make_config(), specs, shares) if shares else None
    with pytest.raises(ValueError, match=message):
        ReplayShard(make_config(), specs, settings=settings)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"samples_per_insert_cap": 0.5},
            r"cap \(0.5\) must not be below replay.samples_per_insert \(1.0\)",
        ),
        ({"samples_per_insert_cap": math.nan}, r"cap \(nan\) must not be below"),
        ({"min_size_per_game": 65}, r"min_size_per_game \(65\) must not exceed"),
    ],
)
def test_settings_that_make_no_sense_are_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        make_config(**overrides)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.by_game[1].count_sample(1), "boxing: 4 transitions were drawn, .* counts 5"),
        (lambda p: p.by_game[1].count_insert(17), "boxing: 16 transitions were stored, .* 17"),
        (lambda p: p.by_game[1].count_insert(-1), "boxing: 16 transitions were stored"),
        (lambda p: p.by_game[1].count_insert(1), "not the sum of the games' own"),
        (lambda p: p.total.count_insert(1), "not the sum of the games' own"),
        (lambda p: p.total.count_sample(1), "not the sum of the games' own"),
        (lambda p: setattr(p.by_game[1], "started", False), "not the sum of the games' own"),
    ],
)
def test_check_valid_finds_a_pace_that_has_counted_something_else(damage, message):
    shard = filled_shard()
    assert shard.sample() is not None
    shard.check_valid()
    damage(shard._pacing)
    with pytest.raises(ValueError, match=message):
        shard.check_valid()
