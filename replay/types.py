"""Wire format between actors, replay and learner.

Plain frozen dataclasses of NumPy arrays: they travel through Ray's object store without a copy
and through a function call as they are. Arrays that arrive from Ray are read-only views of shared
memory, so whoever keeps one beyond the call copies it.

An *entry* is one observation of a stream (one environment's consecutive steps) together with what
was done there. All entries but one kind are transitions: the last observation of a truncated
episode has no action and exists only so that the step before it can bootstrap.

Shape letters:
    E  entries of a chunk, ordered by stream, then by time
    R  runs: stretches of consecutive entries of one stream
    B  transitions of a batch, ordered by game
    N  steps of an n-step return (0 when the objective needs no successors)
    Q  sequences of a batch;  T  steps of each
    C, H, W  one frame;  S  frames per observation

The columns of a transition are declared in replay/columns.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from replay.columns import required_columns, sent_column, wrong_values

UInt8Array: TypeAlias = NDArray[np.uint8]
Int32Array: TypeAlias = NDArray[np.int32]
Int64Array: TypeAlias = NDArray[np.int64]
Float16Array: TypeAlias = NDArray[np.float16]
Float32Array: TypeAlias = NDArray[np.float32]
Float64Array: TypeAlias = NDArray[np.float64]
BoolArray: TypeAlias = NDArray[np.bool_]
# Arrays by the names in replay.columns, all with the same rows.
Columns: TypeAlias = Mapping[str, NDArray[Any]]

# A stream's number is its actor's serial number, shifted, plus the environment's index.
STREAMS_PER_ACTOR_BITS = 16

# The highest position in a stream; what comes after it still has a number.
MAX_STEP = 1 << 62

_MAX_INT64 = int(np.iinfo(np.int64).max)

# Version of a chunk's own fields and their meaning. Columns are known by name, so another set of
# them needs no other version.
CHUNK_LAYOUT_VERSION = 2

_RUN_ARRAYS = ("streams", "first_steps", "lengths")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """What an actor sends at once: runs of consecutive entries of some of its streams."""

    game: str
    # [R] Stream of each run, all of one actor. A restarted actor takes new ones, never old.
    streams: Int64Array
    # [R] Position of each run's first entry in its stream; a jump means that a chunk was lost.
    first_steps: Int64Array
    # [R] Entries in each run; they sum to E.
    lengths: Int64Array
    # [E, ...] What is sent of every entry, by the names in replay.columns.
    columns: Columns
    # Encoded version of the weights that acted (networks.weights.WeightsVersion.encode).
    weights_version: int
    # Replay refuses any other than its own.
    layout_version: int = CHUNK_LAYOUT_VERSION

    def __getitem__(self, name: str) -> NDArray[Any]:
        """One column [E, ...]."""
        return self.columns[name]

    @property
    def num_entries(self) -> int:
        """E."""
        return len(self.columns["frames"])

    @property
    def num_bytes(self) -> int:
        """Size of all arrays."""
        runs = (self.streams, self.first_steps, self.lengths)
        return sum(array.nbytes for array in (*runs, *self.columns.values()))

    @property
    def num_transitions(self) -> int:
        """Entries that can be sampled one day."""
        return int(np.count_nonzero(self.columns["is_transition"]))

    def check(self) -> None:
        """Raises ValueError if the arrays do not fit each other or hold what must not be stored."""
        self._check_layout()
        self._check_arrays()
        self._check_runs()
        self._check_values()

    def _check_layout(self) -> None:
        # A chunk that an older version has pickled comes back with other things in the fields.
        version = getattr(self, "layout_version", 0)
        if type(version) is not int or version != CHUNK_LAYOUT_VERSION:
            shown = version if isinstance(version, int) else "of another kind"
            raise ValueError(
                f"chunk of {self.game}: it has layout {shown}, but this replay stores layout "
                f"{CHUNK_LAYOUT_VERSION}; run actors and replay from the same version of the code"
            )
        missing = [name for name in required_columns() if name not in self.columns]
        unknown = [name for name in self.columns if sent_column(name) is None]
        if missing or unknown:
            wrong = f"lacks {', '.join(missing)}" if missing else f"also has {', '.join(unknown)}"
            raise ValueError(
                f"chunk of {self.game}: it {wrong}; run actors and replay from the same version of "
                "the code"
            )

    def _check_arrays(self) -> None:
        for name in _RUN_ARRAYS:
            self._check_array(name, getattr(self, name), np.int64, num_axes=1)
        for name, array in self.columns.items():
            column = sent_column(name)
            assert column is not None, "unknown columns were refused before"
            self._check_array(name, array, column.dtype, num_axes=1 + len(column.axes))
        for name, array, expected in (
            *((name, getattr(self, name), len(self.lengths)) for name in _RUN_ARRAYS),
            *((name, array, self.num_entries) for name, array in self.columns.items()),
        ):
            if len(array) != expected:
                raise ValueError(
                    f"chunk of {self.game}: {name} has shape {array.shape}, not {expected} rows"
                )

    def _check_array(
        self, name: str, array: object, dtype: type[np.generic], *, num_axes: int
    ) -> None:
        if not isinstance(array, np.ndarray):
            raise ValueError(
                f"chunk of {self.game}: {name} is no array but a {type(array).__name__}"
            )
        if array.ndim != num_axes:
            raise ValueError(
                f"chunk of {self.game}: {name} has shape {array.shape}, not {num_axes} axes"
            )
        if not np.can_cast(array.dtype, dtype, "safe"):
            raise ValueError(
                f"chunk of {self.game}: {name} has type {array.dtype}, expected {np.dtype(dtype)}"
            )

    def _check_runs(self) -> None:
        if not len(self.lengths) or np.any(self.lengths < 0) or np.any(self.first_steps < 0):
            raise ValueError(
                f"chunk of {self.game}: it needs at least one run, and no run may have a negative "
                "length or first step"
            )
        # Before they are added up: a sum that overflows could be anything.
        longest = int(self.lengths.max())
        total = longest if longest > self.num_entries else int(self.lengths.sum())
        if total != self.num_entries:
            raise ValueError(
                f"chunk of {self.game}: run lengths sum to {total} or more, "
                f"but there are {self.num_entries} frames"
            )
        if np.any(self.first_steps > MAX_STEP):
            raise ValueError(f"chunk of {self.game}: a first step is beyond {MAX_STEP}")
        actors = self.streams >> STREAMS_PER_ACTOR_BITS
        if np.any(actors != actors[0]):
            raise ValueError(f"chunk of {self.game}: its streams belong to more than one actor")

    def _check_values(self) -> None:
        version = self.weights_version
        if not isinstance(version, int | np.integer) or not 0 <= version <= _MAX_INT64:
            raise ValueError(
                f"chunk of {self.game}: weights_version must be a whole number from 0 on that fits "
                "into an int64"
            )
        for name, array in self.columns.items():
            column = sent_column(name)
            wrong = column and wrong_values(array, column.values)
            if wrong:
                raise ValueError(f"chunk of {self.game}: {name} {wrong}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Successors:
    """The n steps that follow each sampled transition, for n-step returns."""

    # [B, N] Raw rewards of the transition itself and its successors; 0 from `lengths` on.
    rewards: Float32Array
    # [B, N] 0 where the return ends; unspecified from `lengths` on.
    discounts: Float32Array
    # [B] Steps until the bootstrap observation: N, or fewer before a truncation.
    lengths: Int64Array
    # [B, S*C, H, W] Observation after `lengths` steps; zeros where the return ended before.
    bootstrap_observations: UInt8Array

    @classmethod
    def empty(
        cls, batch_size: int, num_steps: int, observation_shape: tuple[int, ...]
    ) -> Successors:
        """Arrays to be filled."""
        return cls(
            rewards=np.empty((batch_size, num_steps), np.float32),
            discounts=np.empty((batch_size, num_steps), np.float32),
            lengths=np.empty(batch_size, np.int64),
            bootstrap_observations=np.empty((batch_size, *observation_shape), np.uint8),
        )

    def rows(self, rows: slice) -> Successors:
        """Some of the transitions, as views."""
        return Successors(
            rewards=self.rewards[rows],
            discounts=self.discounts[rows],
            lengths=self.lengths[rows],
            bootstrap_observations=self.bootstrap_observations[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemKeys:
    """Where sampled transitions lie, and which ones they are: stale keys are recognised."""

    shard: int
    # [B] Index into the shard's games.
    game_index: Int64Array
    # [B]
    slots: Int64Array
    # [B] Serial number of the entry that was in the slot.
    generations: Int64Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequences:
    """What makes the rows of a batch Q sequences of T consecutive steps, one after the other.

    A sequence that ends early repeats its last step up to T: in those rows the loss weight is 0 and
    the key is nobody's, all else is as in the last step.
    """

    # T.
    length: int
    # [Q] Steps of each sequence, 1 to T; the rows behind them are repetitions.
    num_steps: Int64Array
    # [Q, S*C, H, W] Observation after the last step; zeros where there is none.
    bootstrap_observations: UInt8Array
    # [Q] Whether the observation after the last step is here. If not, and the last discount is
    # not 0, what became of the last step is not known.
    can_bootstrap: BoolArray

    @property
    def is_step(self) -> BoolArray:
        """[Q, T] False for repetitions."""
        is_step: BoolArray = np.arange(self.length) < self.num_steps[:, None]
        return is_step

    def part(self, part: slice) -> Sequences:
        """Some of the sequences, as views."""
        return Sequences(
            length=self.length,
            num_steps=self.num_steps[part],
            bootstrap_observations=self.bootstrap_observations[part],
            can_bootstrap=self.can_bootstrap[part],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleBatch:
    """What the learner gets: transitions of all games, ordered by game.

    They are single steps, unless `sequences` says otherwise; with successors, if the objective
    needs n-step returns.
    """

    games: tuple[str, ...]
    keys: ItemKeys
    # [B, S*C, H, W] Oldest frame first.
    observations: UInt8Array
    # [B, ...] What was stored of each, by the names in replay.columns. An axis of the widest game;
    # zeros lie behind a narrower game's values.
    columns: Columns
    # [B] 1 / (N * P): N transitions of the game can be drawn, this one with probability P. A step
    # of a sequence has that of the first step, which was drawn.
    inverse_probabilities: Float32Array
    # [B] Restore the configured balance of the games present when one yielded part of its share;
    # mean 1.
    loss_weights: Float32Array
    # [B] Entries of the same game that this shard has stored since.
    ages: Int64Array
    successors: Successors | None = None
    sequences: Sequences | None = None

    def __getitem__(self, name: str) -> NDArray[Any]:
        """One column [B, ...]."""
        return self.columns[name]

    @property
    def game_index(self) -> Int64Array:
        """[B] Index into `games`."""
        return self.keys.game_index

    @property
    def batch_size(self) -> int:
        """B."""
        return len(self.observations)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityUpdate:
    """New priorities for transitions that were sampled earlier."""

    keys: ItemKeys
    # [B] Non-negative and finite.
    priorities: Float32Array

    def check(self) -> None:
        """Raises ValueError unless keys are whole numbers, and priorities floats, one for each."""
        for name, column, kinds in (
            ("game_index", self.keys.game_index, "iu"),
            ("slots", self.keys.slots, "iu"),
            ("generations", self.keys.generations, "iu"),
            ("priorities", self.priorities, "f"),
        ):
            if not isinstance(column, np.ndarray) or column.dtype.kind not in kinds:
                got = getattr(column, "dtype", type(column).__name__)
                wanted = "floats" if kinds == "f" else "whole numbers"
                raise ValueError(f"{name} of a priority update must be {wanted}, got {got}")
            if column.ndim != 1 or column.shape != self.keys.game_index.shape:
                raise ValueError(
                    "keys and priorities of an update must have the same number of rows"
                )
