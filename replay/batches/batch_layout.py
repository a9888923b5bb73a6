"""Where the arrays of a batch lie in one block of memory.

Writer and reader of a block agree on it by the layout alone, which is small and travels once. The
arrays of a batch are views of the block, so filling them fills the block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replay.storage.ring import TableSpec
from replay.types import ItemKeys, SampleBatch, Successors, UInt8Array

_ALIGNMENT = 64
"""Bytes; a cache line, and enough for every type."""


@dataclass(frozen=True, slots=True)
class ArrayPlace:
    """One array in the block."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    """In bytes, from the block's start."""

    @property
    def num_bytes(self) -> int:
        """Of the array."""
        return np.dtype(self.dtype).itemsize * prod(self.shape)


@dataclass(frozen=True, slots=True)
class BatchLayout:
    """The places of all arrays of batches of one size from one set of tables."""

    games: tuple[str, ...]
    places: tuple[ArrayPlace, ...]
    num_bytes: int
    """Of the block, a multiple of the alignment."""

    @classmethod
    def of_tables(cls, specs: Sequence[TableSpec], batch_size: int) -> BatchLayout:
        """The layout of batches of these tables, which fit into one batch."""
        return cls.of_arrays(
            tuple(spec.game for spec in specs), _arrays_of_batch(specs, batch_size)
        )

    @classmethod
    def of_arrays(
        cls, games: tuple[str, ...], arrays: Mapping[str, tuple[type[np.generic], tuple[int, ...]]]
    ) -> BatchLayout:
        """The layout of arrays of these types and shapes, in this order."""
        places = []
        offset = 0
        for name, (dtype, shape) in arrays.items():
            place = ArrayPlace(name, np.dtype(dtype).str, shape, offset)
            places.append(place)
            offset += -(-place.num_bytes // _ALIGNMENT) * _ALIGNMENT
        return cls(games, tuple(places), offset)

    def views(self, block: UInt8Array) -> dict[str, NDArray[Any]]:
        """The arrays in a block [num_bytes]; read-only if the block is."""
        return {
            place.name: block[place.offset : place.offset + place.num_bytes]
            .view(place.dtype)
            .reshape(place.shape)
            for place in self.places
        }

    def batch(self, block: UInt8Array, *, shard: int) -> SampleBatch:
        """The batch in a block [num_bytes]; its arrays are views of it."""
        arrays = self.views(block)
        keys = {name: arrays.pop(name) for name in _KEY_ARRAYS}
        successors = {name: arrays.pop(name) for name in _SUCCESSOR_ARRAYS if name in arrays}
        return SampleBatch(
            games=self.games,
            keys=ItemKeys(shard=shard, **keys),
            successors=Successors(**successors) if successors else None,
            **arrays,
        )


_KEY_ARRAYS = ("game_index", "slots", "generations")
_SUCCESSOR_ARRAYS = ("rewards", "discounts", "lengths", "bootstrap_observations")


def _arrays_of_batch(
    specs: Sequence[TableSpec], batch_size: int
) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
    """Type and shape of every array of a SampleBatch, those of its parts among them."""
    spec = specs[0]
    num_features = max(spec.num_teacher_features for spec in specs)
    rows = (batch_size,)
    arrays: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
        "observations": (np.uint8, (*rows, *spec.observation_shape)),
        "game_index": (np.int64, rows),
        "slots": (np.int64, rows),
        "generations": (np.int64, rows),
        "actions": (np.int64, rows),
        "student_logits": (np.float16, (*rows, spec.num_actions)),
        "teacher_logits": (np.float16, (*rows, spec.num_teacher_actions)),
        "teacher_features": (np.float16, (*rows, num_features)),
        "teacher_values": (np.float32, rows),
        "inverse_probabilities": (np.float32, rows),
        "loss_weights": (np.float32, rows),
        "weights_versions": (np.int64, rows),
        "ages": (np.int64, rows),
    }
    if spec.num_successors:
        steps = (batch_size, spec.num_successors)
        arrays |= {
            "rewards": (np.float32, steps),
            "discounts": (np.float32, steps),
            "lengths": (np.int64, rows),
            "bootstrap_observations": (np.uint8, (*rows, *spec.observation_shape)),
        }
    return arrays
