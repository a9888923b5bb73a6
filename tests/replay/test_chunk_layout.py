"""A chunk by the version of its layout: actors and replay may run different code."""

from __future__ import annotations

import pickle
from dataclasses import fields

import numpy as np
import pytest
from replay_chunks import EpisodeWriter, chunk_of
from replay_shards import make_shard

from replay.types import CHUNK_LAYOUT_VERSION, Chunk

FIELDS = {
    2: (
        "game: str",
        "streams: Int64Array",
        "first_steps: Int64Array",
        "lengths: Int64Array",
        "columns: Columns",
        "weights_version: int",
        "layout_version: int",
    ),
}
"""The fields of every version since they hold columns by name: one is added, none is changed."""


def test_a_chunk_with_other_fields_has_another_version():
    assert max(FIELDS) == CHUNK_LAYOUT_VERSION
    assert (
        tuple(f"{field.name}: {field.type}" for field in fields(Chunk))
        == FIELDS[CHUNK_LAYOUT_VERSION]
    ), "Chunk has changed: raise CHUNK_LAYOUT_VERSION, and add its fields here under the new one"
    assert len(set(FIELDS.values())) == len(FIELDS)


def test_a_chunk_as_the_first_version_pickled_it_is_refused():
    chunk = chunk_of(EpisodeWriter().play(0, ".."))
    runs = [chunk.streams, chunk.first_steps, chunk.lengths]
    # Its columns were fields of their own, in the order in which they are declared.
    state = [chunk.game, *runs, *chunk.columns.values(), chunk.weights_version, 1]
    old = pickle.loads(pickle.dumps(chunk))
    old.__setstate__(state)
    with pytest.raises(ValueError, match="it has layout of another kind, but this replay stores"):
        make_shard().add(old)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"rewards": None}, "lacks rewards; run actors and replay from the same version"),
        ({"curiosity": np.zeros(2)}, "also has curiosity; run actors and replay from the same"),
        ({"behaviour_probabilities": np.ones(2, np.float32)}, "which this run does not store"),
    ],
)
def test_a_chunk_with_other_columns_is_refused(columns, message):
    chunk = chunk_of(EpisodeWriter().play(0, ".."))
    changed = {**chunk.columns, **columns}
    columns = {name: array for name, array in changed.items() if array is not None}
    with pytest.raises(ValueError, match=message):
        make_shard().add(
            Chunk(
                game=chunk.game,
                streams=chunk.streams,
                first_steps=chunk.first_steps,
                lengths=chunk.lengths,
                columns=columns,
                weights_version=0,
            )
        )
