"""Priorities through a pipe are those that went in."""

from __future__ import annotations

import numpy as np

from replay.channel.batch_channel import pack_updates, unpack_updates
from replay.types import ItemKeys, PriorityUpdate


def make_update(size: int, seed: int) -> PriorityUpdate:
    rng = np.random.default_rng(seed)
    keys = ItemKeys(
        shard=3,
        game_index=rng.integers(0, 9, size),
        slots=rng.integers(0, 1 << 40, size),
        generations=rng.integers(0, 1 << 62, size),
    )
    return PriorityUpdate(keys=keys, priorities=rng.random(size, np.float32))


def test_updates_of_any_size_come_back():
    # Odd sizes leave the next update's numbers off their alignment.
    updates = [make_update(size, seed) for seed, size in enumerate((5, 0, 1, 512))]
    back = unpack_updates(pack_updates(updates), shard=3)
    assert len(back) == len(updates)
    for one, other in zip(updates, back, strict=True):
        assert other.keys.shard == 3
        np.testing.assert_array_equal(one.priorities, other.priorities)
        for name in ("game_index", "slots", "generations"):
            left, right = getattr(one.keys, name), getattr(other.keys, name)
            np.testing.assert_array_equal(left, right)
            assert right.dtype == np.int64
