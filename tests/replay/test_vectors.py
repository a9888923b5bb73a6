"""Frames that are vectors of floats, through all of replay."""

from dataclasses import replace

import numpy as np
import pytest
from replay_chunks import EpisodeWriter, chunk_of, make_spec, through_channel
from replay_shards import make_config

from networks.atomic_file import write_atomically
from replay.columns import EntryShape
from replay.shard import ReplayShard
from replay.snapshots.keeper import ShardKeeper

SIZE = 3


def spec(compression):
    made = make_spec(num_stack=2, num_successors=2)
    entry = EntryShape(
        frame_shape=(SIZE,), num_actions=3, num_teacher_actions=3, num_teacher_features=2
    )
    return replace(made, entry=entry, compression=compression)


def chunk(last=1.5):
    """Entries whose frames are (step, -step / 3, 1.5)."""
    made = chunk_of(EpisodeWriter().play(0, "........"))
    steps = np.arange(made.num_entries, dtype=np.float32)
    frames = np.stack([steps, -steps / 3, np.full_like(steps, 1.5)], 1)
    frames[-1, 2] = last
    return replace(made, columns={**made.columns, "frames": frames})


def check(batch):
    """Each observation is two frames that follow each other, or follow zeros."""
    assert batch.observations.dtype == batch.successors.bootstrap_observations.dtype == np.float32
    older, newer = np.split(batch.observations, 2, axis=1)
    steps = newer[:, 0]
    np.testing.assert_array_equal(newer[:, 1], -steps / 3)
    begun = steps > 0
    np.testing.assert_array_equal(older[begun, 0], steps[begun] - 1)
    assert not older[~begun].any()
    after = batch.successors.bootstrap_observations
    known = after.any(1)
    assert known.any()
    np.testing.assert_array_equal(after[known, SIZE], steps[known] + 2)


@pytest.mark.parametrize("compression", ["none", "lz4"])
def test_vectors_come_back_in_batches_and_through_a_snapshot_of_the_other_kind(
    compression, tmp_path
):
    config = make_config(batch_size=8)
    shard = ReplayShard(config, [spec(compression)])
    keeper = ShardKeeper(shard, tmp_path, write=write_atomically)
    assert shard.add(chunk())
    with through_channel(shard) as batch:
        check(batch)
    assert keeper.save()
    other = "none" if compression == "lz4" else "lz4"
    again = ReplayShard(config, [spec(other)])
    ShardKeeper(again, tmp_path, write=write_atomically)
    restored = again.sample()
    assert restored is not None
    check(restored)
    again.check_valid()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_refused(wrong):
    shard = ReplayShard(make_config(), [spec("none")])
    with pytest.raises(ValueError, match="chunk of pong: frames must be finite"):
        shard.add(chunk(last=wrong))


def test_images_are_no_vectors():
    shard = ReplayShard(make_config(), [spec("none")])
    with pytest.raises(ValueError, match="frames has type uint8"):
        shard.add(chunk_of(EpisodeWriter().play(0, "....")))
