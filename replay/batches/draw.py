"""Draws one batch out of the tables of several games into one block of memory.

Writer and reader of a block agree on where its arrays lie by the layout alone, which is small and
travels once. The arrays of a batch are views of the block, so filling them fills the block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replay.storage.links import NO_SLOT
from replay.storage.ring import TableSpec, TransitionRing
from replay.storage.table import Drawn, ReplayTable, SequenceSlots
from replay.types import (
    Int64Array,
    ItemKeys,
    SampleBatch,
    Sequences,
    Successors,
    UInt8Array,
)

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
        sequences: dict[str, Any] = {**parts.get("sequences", {})}
        if sequences:
            sequences |= {"length": self.sequence_length, "starts": parts.get("starts", {})}
        return SampleBatch(
            games=self.games,
            keys=ItemKeys(shard=shard, **parts["keys"]),
            columns=parts["columns"],
            successors=Successors(**parts["successors"]) if "successors" in parts else None,
            sequences=Sequences(**sequences) if sequences else None,
            **parts[""],
        )


def _arrays_of_batch(
    specs: Sequence[TableSpec], batch_size: int
) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
    """Type and shape of every array of a SampleBatch; those of its parts as PART/NAME."""
    spec = specs[0]
    frames = spec.entry.frame_dtype
    rows = (batch_size,)
    arrays: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
        "observations": (frames, (*rows, *spec.observation_shape)),
        "keys/game_index": (np.int64, rows),
        "keys/generations": (np.int64, rows),
        "inverse_probabilities": (np.float32, rows),
        "loss_weights": (np.float32, rows),
        "ages": (np.int64, rows),
    }
    each = (batch_size // spec.sequence_length,)
    for column in spec.entry.columns:
        shapes = [other.entry.row_shape(column) for other in specs]
        widest = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
        if column.travels == "batches" or (
            column.travels == "sequences" and spec.sequence_length > 1
        ):
            arrays[f"columns/{column.name}"] = (column.dtype, (*rows, *widest))
        elif column.travels == "starts" and spec.sequence_length > 1:
            arrays[f"starts/{column.name}"] = (column.dtype, (*each, *widest))
    if spec.num_successors:
        steps = (batch_size, spec.num_successors)
        arrays |= {
            "successors/rewards": (np.float32, steps),
            "successors/discounts": (np.float32, steps),
            "successors/lengths": (np.int64, rows),
            "successors/bootstrap_observations": (frames, (*rows, *spec.observation_shape)),
        }
    if spec.sequence_length > 1:
        arrays |= {
            "sequences/num_steps": (np.int64, each),
            "sequences/can_bootstrap": (np.bool_, each),
            "sequences/bootstrap_observations": (frames, (*each, *spec.observation_shape)),
        }
    return arrays


# From here on a row is worth fetching into the caches before it is copied.
_LARGE_ROW_BYTES = 256


def check_tables(tables: Sequence[TableSpec], *, batch_size: int) -> None:
    """Raises ValueError unless transitions of all the tables fit into one batch of this size."""
    if not tables:
        raise ValueError("a replay shard needs at least one game")
    games = [spec.game for spec in tables]
    if len(set(games)) != len(games):
        raise ValueError(f"a replay shard was given two tables of one game: {', '.join(games)}")
    first = tables[0]
    for spec in tables[1:]:
        for name, mine, other in _that_must_agree(first, spec):
            if mine != other:
                raise ValueError(
                    f"{first.game} and {spec.game} do not fit into one batch: {name} is {mine} "
                    f"and {other}"
                )
    length = first.sequence_length
    if batch_size % length:
        fewer = batch_size - batch_size % length
        raise ValueError(
            f"replay.batch_size ({batch_size}) must be a multiple of the {length} steps of each "
            f"sequence; use {f'{fewer} or ' if fewer else ''}{fewer + length}"
        )


def _that_must_agree(first: TableSpec, second: TableSpec) -> Iterator[tuple[str, object, object]]:
    """(name, value of the one, value of the other) of what all tables of a batch have alike."""
    for name in ("observation_shape", "num_successors", "sequence_length"):
        yield name, getattr(first, name), getattr(second, name)
    for name in ("num_actions", "num_teacher_actions", "extra_columns"):
        yield name, getattr(first.entry, name), getattr(second.entry, name)


def empty_batch(specs: Sequence[TableSpec], batch_size: int, *, shard: int) -> SampleBatch:
    """A batch of these tables' transitions in new memory, to be filled by `draw_batch`."""
    layout = BatchLayout.of_tables(specs, batch_size)
    return layout.batch(np.empty(layout.num_bytes, np.uint8), shard=shard)


def draw_batch(
    tables: Sequence[ReplayTable], counts: Sequence[int], *, out: SampleBatch
) -> list[int]:
    """Draw transitions and gather all that the learner needs of them into `out`.

    All arrays are filled but the loss weights, which depend on what was found. `counts` [G] are the
    rows of each game, multiples of the length of sequences; games that give some must have
    transitions that are ready. Returns the steps drawn of each game [G]: its rows without those
    that repeat a sequence's last step.
    """
    drawn = []
    num_steps = [0] * len(tables)
    start = 0
    for index, count in enumerate(counts):
        if count:
            rows = slice(start, start + count)
            out.keys.game_index[rows] = index
            table = tables[index]
            found = table.sample(count)
            _fill_labels(table.ring, found, out, rows)
            num_steps[index] = found.num_steps
            drawn.append((table.ring, found, rows))
            start += count
    # Last, of all games: they are megabytes, and drive all else out of the processor's caches.
    for ring, found, rows in drawn:
        ring.gather_observations(found.slots, out.observations[rows])
        if out.successors is not None:
            ring.gather_successors(found.slots, out.successors.rows(rows))
        if out.sequences is not None and found.sequences is not None:
            _fill_sequences(ring, found.sequences, out.sequences, rows)
    return num_steps


def weigh_rows(batch: SampleBatch, counts: Sequence[int], loss_weights: Sequence[float]) -> None:
    """Fill a batch's loss weights with those of each game's steps; rows that repeat have none."""
    batch.loss_weights[:] = np.repeat(loss_weights, counts)
    if batch.sequences is not None:
        batch.loss_weights[~batch.sequences.is_step.reshape(-1)] = 0.0


def _fill_labels(ring: TransitionRing, drawn: Drawn, out: SampleBatch, rows: slice) -> None:
    """Copy what is known of transitions [B], but for frames, to some rows of a batch."""
    slots = drawn.slots
    out.keys.generations[rows] = drawn.generations
    out.ages[rows] = drawn.ages
    out.inverse_probabilities[rows] = drawn.inverse_probabilities
    for name, values in out.columns.items():
        _gather(ring[name], slots, values[rows])


def _gather(stored: NDArray[Any], slots: Int64Array, out: NDArray[Any]) -> None:
    """Copy rows of a column to `out`, which may be wider: zeros lie behind them then."""
    if out.ndim > 1 and stored.shape[1] != out.shape[1]:
        out[:, : stored.shape[1]] = stored.take(slots, axis=0)
        out[:, stored.shape[1] :] = 0
        return
    if stored.dtype != out.dtype:
        out[:] = stored.take(slots, axis=0)
        return
    if stored.strides[0] >= _LARGE_ROW_BYTES:
        # As for frames (frame_store.py): rows lie all over memory, and are asked for all at once.
        stored[:, 0][slots]
    # Clipped instead of checked: only then does NumPy copy straight to where it is told to.
    stored.take(slots, axis=0, out=out, mode="clip")


def _fill_sequences(
    ring: TransitionRing, found: SequenceSlots, out: Sequences, rows: slice
) -> None:
    """Copy what is known of sequences as a whole to those of a batch that are in some rows."""
    part = out.part(slice(rows.start // out.length, rows.stop // out.length))
    part.num_steps[:] = found.num_steps
    for name, values in part.starts.items():
        _gather(ring[name], found.slots[:, 0], values)
    part.can_bootstrap[:] = found.bootstrap_slots != NO_SLOT
    ring.gather_observations(found.bootstrap_slots, part.bootstrap_observations)
