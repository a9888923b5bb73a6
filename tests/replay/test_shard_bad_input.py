"""What a shard refuses, and that nothing has changed then."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from replay_chunks import EpisodeWriter, array_of, chunk_of, with_array
from replay_shards import GAMES, Players, contents, make_shard

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


def without(name):
    return lambda chunk: replace(
        chunk, columns={key: array for key, array in chunk.columns.items() if key != name}
    )


def with_optional(chunk):
    extra = {"behaviour_probabilities": np.ones(4, np.float32)}
    return replace(chunk, columns={**chunk.columns, **extra})


BAD_CHUNKS = {
    "a column missing": (without("rewards"), "rewards is sent or stored, but not both"),
    "an optional column too many": (
        with_optional,
        "behaviour_probabilities is sent or stored, but not both",
    ),
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
    "discount above one": (with_value("discounts", 1.5), "discounts must lie between"),
    "unknown action": (with_value("actions", 3), "actions must lie between 0 and 2"),
    "negative action": (with_value("actions", -1), "actions must lie between 0 and 2"),
    "frames too large": (
        changed("frames", lambda a: np.zeros((4, 1, 3, 3), np.uint8)),
        "frames has type uint8 and shape",
    ),
    "frames of floats": (
        changed("frames", lambda a: a.astype(np.float32)),
        "frames has type float32",
    ),
    "logits too wide": (
        changed("student_logits", lambda a: np.zeros((4, 9), np.float16)),
        "student_logits has type float16 and shape",
    ),
    "logits of the teacher missing": (
        changed("teacher_logits", lambda a: a[:, :0]),
        "teacher_logits has type float16 and shape",
    ),
    "features missing": (
        changed("teacher_features", lambda a: a[:, :0]),
        "teacher_features has type float16 and shape",
    ),
    "rewards of doubles": (
        changed("rewards", lambda a: a.astype(np.float64)),
        "rewards has type float64",
    ),
    "a column too short": (changed("rewards", lambda a: a[:-1]), "rewards has type float32 and"),
    "runs too long": (changed("lengths", lambda a: a + 1), "run lengths sum to 5"),
    "run of negative length": (changed("lengths", lambda a: -a), "negative"),
    "no run": (changed("lengths", lambda a: a[:0]), "one row of int64"),
    "two actors": (
        lambda chunk: replace(
            chunk,
            streams=np.array([7 << 16, 8 << 16]),
            first_steps=np.array([0, 0]),
            lengths=np.array([2, 2]),
        ),
        "more than one actor",
    ),
    "unknown game": (lambda chunk: replace(chunk, game="seaquest"), "not 'seaquest'"),
    "nan value of the teacher": (with_value("teacher_values", np.nan), "values must be finite"),
    "discount below 0": (with_value("discounts", -1.0), "discounts must lie between 0 and 1"),
    "an axis too many": (changed("discounts", lambda a: a[:, None]), "discounts has type"),
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
    # Refusing takes time, which is counted.
    assert replace(shard.stats(), busy_s=stats.busy_s) == stats
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


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, CHECKED_AT_ONCE, 3 * CHECKED_AT_ONCE - 1, -1])
def test_a_number_that_is_not_finite_is_found_wherever_it_is(place, value):
    values = np.ones((3 * CHECKED_AT_ONCE + 8) // 8 * 8, np.float16).reshape(-1, 8)
    assert are_finite(values)
    values.reshape(-1)[place] = value
    assert not are_finite(values)
