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
        generations=rng.integers(0, 1 << 62, size),
    )
    return PriorityUpdate(keys=keys, priorities=rng.random(size, np.float32))


def test_all_updates_come_back_as_one():
    updates = [make_update(size, seed) for seed, size in enumerate((5, 0, 1, 512))]
    back = unpack_updates(pack_updates(updates), shard=3)
    assert back.keys.shard == 3
    rows = {
        "game_index": [update.keys.game_index for update in updates],
        "generations": [update.keys.generations for update in updates],
    }
    for name, parts in rows.items():
        np.testing.assert_array_equal(getattr(back.keys, name), np.concatenate(parts))
    priorities = np.concatenate([update.priorities for update in updates])
    np.testing.assert_array_equal(back.priorities, priorities)


def test_no_updates_are_no_bytes():
    assert pack_updates([]) == b""
    assert not len(unpack_updates(b"", shard=0).priorities)
