"""What a shard refuses, and that nothing has changed then."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from replay_chunks import EpisodeWriter, chunk_of
from replay_shards import GAMES, Players, contents, make_shard

from replay.types import PriorityUpdate


def good_chunk():
    return chunk_of(EpisodeWriter(actor=7).play(0, "...."))


def with_value(name, value, row=1):
    def change(chunk):
        array = getattr(chunk, name).copy()
        array[row] = value
        return replace(chunk, **{name: array})

    return change


def with_array(name, make):
    return lambda chunk: replace(chunk, **{name: make(getattr(chunk, name))})


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
    "a list for an array": (with_array("rewards", lambda a: a.tolist()), "no array but a list"),
    "discount above one": (with_value("discounts", 1.5), "discounts must lie between"),
    "unknown action": (with_value("actions", 3), "actions must lie between 0 and 2"),
    "negative action": (with_value("actions", -1), "actions must lie between 0 and 2"),
    "frames too large": (
        with_array("frames", lambda a: np.zeros((4, 1, 3, 3), np.uint8)),
        "a row of frames has shape",
    ),
    "frames of floats": (
        with_array("frames", lambda a: a.astype(np.float32)),
        "frames has type float32, expected uint8",
    ),
    "logits too wide": (
        with_array("student_logits", lambda a: np.zeros((4, 9), np.float16)),
        "a row of student_logits has shape",
    ),
    "logits of the teacher missing": (
        with_array("teacher_logits", lambda a: a[:, :0]),
        "a row of teacher_logits has shape",
    ),
    "features missing": (
        with_array("teacher_features", lambda a: a[:, :0]),
        "a row of teacher_features has shape",
    ),
    "rewards of doubles": (
        with_array("rewards", lambda a: a.astype(np.float64)),
        "rewards has type float64",
    ),
    "a column too short": (with_array("rewards", lambda a: a[:-1]), "rewards has shape"),
    "runs too long": (with_array("lengths", lambda a: a + 1), "run lengths sum to 5"),
    "run of negative length": (with_array("lengths", lambda a: -a), "negative"),
    "no run": (with_array("lengths", lambda a: a[:0]), "rows"),
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
    "unknown game": (lambda chunk: replace(chunk, game="seaquest"), "not 'seaquest'"),
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
