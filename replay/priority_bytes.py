"""Priority updates as bytes, for a pipe between two processes of one machine and one version."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from replay.types import ItemKeys, PriorityUpdate

_COUNT = struct.Struct("<q")


def pack_updates(updates: Sequence[PriorityUpdate]) -> bytes:
    """The updates, one behind the other; all are of one shard, whose number is left out."""
    parts = []
    for update in updates:
        keys = update.keys
        parts += [
            _COUNT.pack(len(update.priorities)),
            keys.game_index.astype(np.int64, copy=False).tobytes(),
            keys.slots.astype(np.int64, copy=False).tobytes(),
            keys.generations.astype(np.int64, copy=False).tobytes(),
            update.priorities.astype(np.float32, copy=False).tobytes(),
        ]
    return b"".join(parts)


def unpack_updates(data: bytes, *, shard: int) -> list[PriorityUpdate]:
    """What `pack_updates` was given; the arrays are views of the bytes."""
    updates = []
    position = 0

    def take(dtype: type[np.generic], count: int) -> np.ndarray:
        nonlocal position
        array = np.frombuffer(data, dtype, count, position)
        position += array.nbytes
        return array

    while position < len(data):
        (count,) = _COUNT.unpack_from(data, position)
        position += _COUNT.size
        keys = ItemKeys(
            shard=shard,
            game_index=take(np.int64, count),
            slots=take(np.int64, count),
            generations=take(np.int64, count),
        )
        updates.append(PriorityUpdate(keys=keys, priorities=take(np.float32, count)))
    return updates
