"""A stored column is one declaration: everything from an actor's rows to a snapshot follows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from replay_chunks import EpisodeWriter, chunk_of, make_spec, through_channel
from replay_shards import make_config

import replay.columns
from actors.rows import RowWindow
from networks.atomic_file import write_atomically
from replay.columns import COLUMNS, Column, EntryShape, wrong_values
from replay.shard import ReplayShard
from replay.snapshots.keeper import ShardKeeper
from replay.storage.ring import TableSpec
from replay.types import Chunk, SampleBatch

CURIOSITY = Column(
    name="curiosity", dtype=np.float32, axes="D", values="finite", travels="batches", optional=True
)


@pytest.fixture
def declared(monkeypatch):
    """The table of columns with one more."""
    monkeypatch.setattr(replay.columns, "COLUMNS", (*COLUMNS, CURIOSITY))


def entry() -> EntryShape:
    return EntryShape(
        frame_shape=(1, 2, 2),
        num_actions=3,
        num_teacher_actions=3,
        num_teacher_features=2,
        memory_size=2,
        extra_columns=("curiosity", "memories"),
    )


def spec(**shape) -> TableSpec:
    return replace(make_spec(num_stack=1, **shape), entry=entry())


def chunk_of_rows(value: float = 0.0) -> Chunk:
    """Eight steps of one environment, whose curiosities count from `value`."""
    rows = RowWindow(entry(), num_envs=1, chunk_steps=8, num_lookahead=0)
    rows.is_entry[:] = rows["is_transition"][:] = True
    rows["is_first"][0] = True
    rows["discounts"][:] = 1.0
    rows["teacher_values"][:, 0] = np.arange(8)
    rows["curiosity"][:, 0] = value + np.arange(8)[:, None] + [0.0, 0.5]
    rows["memories"][:, 0] = np.arange(8)[:, None] + [0.0, 0.5]
    ones = np.ones((8, 1), np.float32)
    return rows.take_chunk(game="pong", actor_serial=0, priorities=ones, weights_version=0)


def curiosity_of(values: np.ndarray) -> np.ndarray:
    """What belongs to the steps with these teacher's values."""
    return values[:, None] + np.array([0.0, 0.5], np.float32)


@pytest.mark.parametrize("length", [1, 3])
def test_a_declared_column_travels_from_rows_to_batches_and_through_a_snapshot(
    declared, tmp_path, length
):
    config = make_config(batch_size=6)
    shard = ReplayShard(config, [spec(sequence_length=length)])
    keeper = ShardKeeper(shard, tmp_path, write=write_atomically)
    assert shard.add(chunk_of_rows())
    with through_channel(shard) as batch:
        check(batch, length)
    assert keeper.save()
    again = ReplayShard(config, [spec(sequence_length=length)])
    ShardKeeper(again, tmp_path, write=write_atomically)
    batch = again.sample()
    assert batch is not None
    check(batch, length)
    again.check_valid()


def check(batch: SampleBatch, length: int) -> None:
    expected = curiosity_of(batch["teacher_values"])
    np.testing.assert_array_equal(batch["curiosity"], expected)
    assert "memories" not in batch.columns
    if length > 1:
        np.testing.assert_array_equal(batch.sequences.starts["memories"], expected[::length])


def test_its_values_are_checked_as_declared(declared):
    shard = ReplayShard(make_config(), [spec()])
    with pytest.raises(ValueError, match="chunk of pong: curiosity must be finite"):
        shard.add(chunk_of_rows(np.nan))


def test_a_run_that_does_not_store_it_refuses_it_and_one_that_does_misses_it(declared):
    plain = ReplayShard(make_config(), [make_spec(num_stack=1)])
    with pytest.raises(ValueError, match="curiosity, memories is sent or stored, but not both"):
        plain.add(chunk_of_rows())
    chunk = chunk_of(EpisodeWriter().play(0, "...."))
    with pytest.raises(ValueError, match="curiosity, memories is sent or stored, but not both"):
        ReplayShard(make_config(), [spec()]).add(chunk)


def test_a_snapshot_without_it_is_not_used_and_says_why(declared, tmp_path):
    shard = ReplayShard(make_config(), [make_spec(num_stack=1)])
    keeper = ShardKeeper(shard, tmp_path, write=write_atomically)
    assert shard.add(chunk_of(EpisodeWriter().play(0, "....")))
    assert keeper.save()
    notes = (
        ShardKeeper(ReplayShard(make_config(), [spec()]), tmp_path, write=write_atomically)
        .stats()
        .notes
    )
    assert (
        "extra_columns of pong is None there and ['curiosity', 'memories'] in this run" in notes[0]
    )


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("finite", [-1.0, 2.0], np.inf),
        ("fraction", [0.0, 1.0], 1.5),
        ("priority", [0.0, 7.0], -0.5),
    ],
)
def test_kinds_of_values_refuse_what_they_exclude_and_nan(kind, good, bad):
    assert wrong_values(np.array(good, np.float32), kind) is None
    for value in (bad, np.nan):
        assert wrong_values(np.array([*good, value], np.float32), kind)
    assert wrong_values(np.array([np.nan]), "any") is None
