"""Where the arrays of a batch lie in one block of memory.

Writer and reader of a block agree on it by the layout alone, which is small and travels once. The
arrays of a batch are views of the block, so filling them fills the block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replay.storage.ring import TableSpec
from replay.types import ItemKeys, SampleBatch, Sequences, Successors, UInt8Array

# Bytes; a cache line, and enough for every type.
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class ArrayPlace:
    """One array in the block."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    # Bytes from the block's start.
    offset: int

    @property
    def num_bytes(self) -> int:
        """Size of the array."""
        return np.dtype(self.dtype).itemsize * prod(self.shape)


@dataclass(frozen=True, slots=True)
class BatchLayout:
    """The places of all arrays of batches of one size from one set of tables."""

    games: tuple[str, ...]
    places: tuple[ArrayPlace, ...]
    # Size of the block, a multiple of the alignment.
    num_bytes: int
    # Steps of each sequence; 1 for single steps.
    sequence_length: int = 1

    @classmethod
    def of_tables(cls, specs: Sequence[TableSpec], batch_size: int) -> BatchLayout:
        """The layout of batches of these tables, which fit into one batch."""
        layout = cls.of_arrays(
            tuple(spec.game for spec in specs), _arrays_of_batch(specs, batch_size)
        )
        return replace(layout, sequence_length=specs[0].sequence_length)

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
        parts: dict[str, dict[str, NDArray[Any]]] = {}
        for name, array in self.views(block).items():
            part, _, name = name.rpartition("/")
            parts.setdefault(part, {})[name] = array
        sequences = parts.get("sequences")
        return SampleBatch(
            games=self.games,
            keys=ItemKeys(shard=shard, **parts["keys"]),
            columns=parts["columns"],
            successors=Successors(**parts["successors"]) if "successors" in parts else None,
            sequences=Sequences(length=self.sequence_length, **sequences) if sequences else None,
            **parts[""],
        )


def _arrays_of_batch(
    specs: Sequence[TableSpec], batch_size: int
) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
    """Type and shape of every array of a SampleBatch; those of its parts as PART/NAME."""
    spec = specs[0]
    rows = (batch_size,)
    arrays: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
        "observations": (np.uint8, (*rows, *spec.observation_shape)),
        "keys/game_index": (np.int64, rows),
        "keys/slots": (np.int64, rows),
        "keys/generations": (np.int64, rows),
        "inverse_probabilities": (np.float32, rows),
        "loss_weights": (np.float32, rows),
        "ages": (np.int64, rows),
    }
    for column in spec.entry.columns:
        if column.travels == "batches" or (
            column.travels == "sequences" and spec.sequence_length > 1
        ):
            shapes = [other.entry.row_shape(column) for other in specs]
            widest = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
            arrays[f"columns/{column.name}"] = (column.dtype, (*rows, *widest))
    if spec.num_successors:
        steps = (batch_size, spec.num_successors)
        arrays |= {
            "successors/rewards": (np.float32, steps),
            "successors/discounts": (np.float32, steps),
            "successors/lengths": (np.int64, rows),
            "successors/bootstrap_observations": (np.uint8, (*rows, *spec.observation_shape)),
        }
    if spec.sequence_length > 1:
        each = (batch_size // spec.sequence_length,)
        arrays |= {
            "sequences/num_steps": (np.int64, each),
            "sequences/can_bootstrap": (np.bool_, each),
            "sequences/bootstrap_observations": (np.uint8, (*each, *spec.observation_shape)),
        }
    return arrays
