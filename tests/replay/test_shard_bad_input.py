"""What a shard refuses, and that nothing has changed then."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from replay_chunks import EpisodeWriter, array_of, chunk_of, with_array
from replay_shards import GAMES, Players, contents, make_shard

from replay.batches.draw import empty_batch
from replay.columns import CHECKED_AT_ONCE, are_finite
from replay.types import PriorityUpdate


def good_chunk():
    return chunk_of(EpisodeWriter(actor=7).play(0, "...."))


def with_value(name, value, row=1):
    def change(chunk):
        array = array_of(chunk, name).copy()
        array[row] = value
        return with_array(chunk, name, array)

    return change


def changed(name, make):
    return lambda chunk: with_array(chunk, name, make(array_of(chunk, name)))


BAD_CHUNKS = {
    "nan priority": (with_value("priorities", np.nan), "priorities must be finite"),
    "negative priority": (with_value("priorities", -0.5), "priorities must be finite"),
    "endless priority": (with_value("priorities", np.inf), "priorities must be finite"),
    "nan reward": (with_value("rewards", np.nan), "rewards must be finite"),
    "nan logits of the teacher": (
        with_value("teacher_logits", np.nan),
        "teacher_logits must be finite",
    ),
    "endless features": (with_value("teacher_features", -np.inf), "features must be finite"),
    "nan epsilon": (with_value("epsilons", np.nan), "epsilons must lie between"),
    "a list for an array": (changed("rewards", lambda a: a.tolist()), "no array but a list"),
    "discount above one": (with_value("discounts", 1.5), "discounts must lie between"),
    "unknown action": (with_value("actions", 3), "actions must lie between 0 and 2"),
    "negative action": (with_value("actions", -1), "actions must lie between 0 and 2"),
    "frames too large": (
        changed("frames", lambda a: np.zeros((4, 1, 3, 3), np.uint8)),
        "a row of frames has shape",
    ),
    "frames of floats": (
        changed("frames", lambda a: a.astype(np.float32)),
        "frames has type float32, expected uint8",
    ),
    "logits too wide": (
        changed("student_logits", lambda a: np.zeros((4, 9), np.float16)),
        "a row of student_logits has shape",
    ),
    "logits of the teacher missing": (
        changed("teacher_logits", lambda a: a[:, :0]),
        "a row of teacher_logits has shape",
    ),
    "features missing": (
        changed("teacher_features", lambda a: a[:, :0]),
        "a row of teacher_features has shape",
    ),
    "rewards of doubles": (
        changed("rewards", lambda a: a.astype(np.float64)),
        "rewards has type float64",
    ),
    "a column too short": (changed("rewards", lambda a: a[:-1]), "rewards has shape"),
    "frames without axes": (
        changed("frames", lambda a: np.zeros((), np.uint8)),
        r"frames has shape \(\), not 4 axes",
    ),
    "lengths without axes": (
        changed("lengths", lambda a: np.array(4)),
        r"lengths has shape \(\), not 1 axes",
    ),
    "runs whose sum overflows": (
        lambda chunk: replace(
            chunk,
            streams=np.full(5, 7 << 16),
            first_steps=np.arange(5),
            lengths=np.array([2**62] * 4 + [4]),
        ),
        "run lengths sum to 4611686018427387904 or more",
    ),
    "steps that overflow": (
        with_value("first_steps", 2**63 - 1, row=0),
        "a first step is beyond 4611686018427387904",
    ),
    "runs too long": (changed("lengths", lambda a: a + 1), "run lengths sum to 5"),
    "run of negative length": (changed("lengths", lambda a: -a), "negative"),
    "no run": (changed("lengths", lambda a: a[:0]), "rows"),
    "two actors": (
        lambda chunk: replace(
            chunk,
            streams=np.array([7 << 16, 8 << 16]),
            first_steps=np.array([0, 0]),
            lengths=np.array([2, 2]),
        ),
        "more than one actor",
    ),
    "another layout": (lambda chunk: replace(chunk, layout_version=99), "layout 99"),
    "a layout that only equals ours": (
        lambda chunk: replace(chunk, layout_version=True),
        "layout True",
    ),
    "version between two": (lambda chunk: replace(chunk, weights_version=1.5), "weights_version"),
    "no version": (lambda chunk: replace(chunk, weights_version=None), "weights_version"),
    "unknown game": (lambda chunk: replace(chunk, game="seaquest"), "not 'seaquest'"),
    "huge version": (lambda chunk: replace(chunk, weights_version=1 << 63), "weights_version"),
    "nan value of the teacher": (with_value("teacher_values", np.nan), "values must be finite"),
    "discount below 0": (with_value("discounts", -1.0), "discounts must lie between 0 and 1"),
    "an axis too many": (changed("discounts", lambda a: a[:, None]), "not 1 axes"),
    "version below 0": (lambda chunk: replace(chunk, weights_version=-1), "weights_version"),
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_a_bad_chunk_is_refused_and_the_shard_is_as_it_was(name):
    spoil, message = BAD_CHUNKS[name]
    shard = make_shard()
    Players(shard).play(3)
    before, stats = contents(shard), shard.stats()
    with pytest.raises(ValueError, match=message):
        shard.add(spoil(good_chunk()))
    assert shard.stats() == stats
    after = contents(shard)
    for game in GAMES:
        for column in before[game]:
            np.testing.assert_array_equal(after[game][column], before[game][column])
    shard.check_valid()
    assert shard.add(good_chunk())


def test_steps_that_replay_has_already_are_refused_and_the_shard_is_as_it_was():
    shard = make_shard()
    chunk = good_chunk()
    assert shard.add(chunk)
    stats = shard.stats()
    with pytest.raises(ValueError, match="steps out of order"):
        shard.add(chunk)
    assert shard.stats() == stats
    shard.check_valid()


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_a_bad_priority_is_refused_and_the_shard_is_as_it_was(value):
    shard = make_shard()
    Players(shard).play(3)
    batch = shard.sample()
    stats = shard.stats()
    priorities = np.full(batch.batch_size, 2.0, np.float32)
    priorities[-1] = value
    with pytest.raises(ValueError, match="must be finite and not negative"):
        shard.update_priorities(PriorityUpdate(keys=batch.keys, priorities=priorities))
    # Refusing takes time, which is counted.
    assert replace(shard.stats(), busy_s=stats.busy_s) == stats
    shard.check_valid()


def test_an_empty_shard_gives_no_batch_and_says_so_at_once():
    shard = make_shard()
    assert not shard.can_sample()
    assert shard.sample() is None
    assert shard.sample(timeout_s=0.0) is None
    stats = shard.stats()
    assert all(table.ready == table.size == 0 for table in stats.tables.values())
    assert all(table.priority_quantiles == () for table in stats.tables.values())


BAD_UPDATES = {
    "games of floats": ("game_index", lambda a: a.astype(np.float64), "game_index .* whole"),
    "slots of floats": ("slots", lambda a: a.astype(np.float64), "slots .* whole numbers"),
    "generations of floats": ("generations", lambda a: a * 1.0, "generations .* whole numbers"),
    "a list of slots": ("slots", lambda a: a.tolist(), "slots .* whole numbers, got list"),
    "a column too short": ("slots", lambda a: a[:-1], "same number of rows"),
    "a list of priorities": ("priorities", lambda a: a.tolist(), "must be floats, got list"),
    "complex priorities": ("priorities", lambda a: a.astype(np.complex64), "must be floats"),
    "priorities of another shape": ("priorities", lambda a: a[:, None], "same number of rows"),
}


@pytest.mark.parametrize("name", BAD_UPDATES)
def test_a_bad_update_is_refused_and_the_shard_is_as_it_was(name):
    column, spoil, message = BAD_UPDATES[name]
    shard = make_shard()
    Players(shard).play(3)
    batch = shard.sample()
    update = PriorityUpdate(keys=batch.keys, priorities=np.ones(batch.batch_size, np.float32))
    spoiled = (
        replace(update, priorities=spoil(update.priorities))
        if column == "priorities"
        else replace(
            update, keys=replace(batch.keys, **{column: spoil(getattr(batch.keys, column))})
        )
    )
    before, stats = contents(shard), shard.stats()
    with pytest.raises(ValueError, match=message):
        shard.update_priorities(spoiled)
    assert shard.stats() == stats
    np.testing.assert_array_equal(
        contents(shard)[GAMES[0]]["priorities"], before[GAMES[0]]["priorities"]
    )
    shard.update_priorities(update)
    shard.check_valid()


def test_a_batch_that_does_not_fit_is_refused_before_anything_is_counted():
    shard = make_shard()
    Players(shard).play(3)
    too_small = empty_batch(shard.specs, shard.config.batch_size - 1, shard=0)
    with pytest.raises(ValueError, match="cannot take the"):
        shard.sample(out=too_small)
    shard.check_valid()
    assert shard.sample() is not None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, CHECKED_AT_ONCE, 3 * CHECKED_AT_ONCE - 1, -1])
def test_a_number_that_is_not_finite_is_found_wherever_it_is(place, value):
    values = np.ones((3 * CHECKED_AT_ONCE + 8) // 8 * 8, np.float16).reshape(-1, 8)
    assert are_finite(values)
    values.reshape(-1)[place] = value
    assert not are_finite(values)
