"""The arrays of a batch in one block of memory."""

from __future__ import annotations

import numpy as np
from replay_chunks import make_spec

from replay.batches.draw import BatchLayout


def test_a_layout_keeps_its_arrays_apart_and_aligned():
    layout = BatchLayout.of_tables([make_spec(), make_spec(game="boxing")], 6)
    stop = 0
    for place in layout.places:
        assert place.offset % 64 == 0
        assert place.offset >= stop
        stop = place.offset + place.num_bytes
    assert layout.num_bytes >= stop
    block = np.zeros(layout.num_bytes, np.uint8)
    batch = layout.batch(block, shard=1)
    assert batch.keys.shard == 1
    assert batch.games == ("pong", "boxing")
    assert batch.successors is None
    batch.observations[:] = 1
    batch.ages[:] = -1
    assert block.sum() == batch.observations.size + 255 * batch.ages.nbytes


def test_a_layout_with_successors_has_them():
    layout = BatchLayout.of_tables([make_spec(num_successors=3)], 6)
    batch = layout.batch(np.zeros(layout.num_bytes, np.uint8), shard=0)
    assert batch.successors is not None
    assert batch.successors.rewards.shape == (6, 3)
    assert batch.successors.bootstrap_observations.shape == batch.observations.shape
