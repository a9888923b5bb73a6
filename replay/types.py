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
    C, H, W  one frame, of a vector C alone;  S  frames per observation

The columns of a transition are declared in replay/columns.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

UInt8Array: TypeAlias = NDArray[np.uint8]
# Frames or observations: images of bytes, or vectors of floats.
FrameArray: TypeAlias = NDArray[np.uint8 | np.float32]
Int32Array: TypeAlias = NDArray[np.int32]
Int64Array: TypeAlias = NDArray[np.int64]
Float32Array: TypeAlias = NDArray[np.float32]
Float64Array: TypeAlias = NDArray[np.float64]
BoolArray: TypeAlias = NDArray[np.bool_]
# Arrays by the names in replay.columns, all with the same rows.
Columns: TypeAlias = Mapping[str, NDArray[Any]]

# A stream's number is its actor's serial number, shifted, plus the environment's index.
STREAMS_PER_ACTOR_BITS = 16


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

    def check_runs(self) -> None:
        """Raises ValueError unless the runs are of one actor's streams, and hold all entries."""
        runs = (self.streams, self.first_steps, self.lengths)
        if any(array.dtype != np.int64 or array.shape != (len(self.lengths),) for array in runs):
            raise ValueError(f"chunk of {self.game}: its runs are not one row of int64 each")
        if not len(self.lengths) or np.any(self.lengths < 0) or np.any(self.first_steps < 0):
            raise ValueError(
                f"chunk of {self.game}: it needs at least one run, and no run may have a negative "
                "length or first step"
            )
        total = int(self.lengths.sum())
        if total != self.num_entries:
            raise ValueError(
                f"chunk of {self.game}: run lengths sum to {total}, but there are "
                f"{self.num_entries} frames"
            )
        actors = self.streams >> STREAMS_PER_ACTOR_BITS
        if np.any(actors != actors[0]):
            raise ValueError(f"chunk of {self.game}: its streams belong to more than one actor")


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
    bootstrap_observations: FrameArray

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
    """Which transitions were sampled: those that are gone by now are recognised."""

    shard: int
    # [B] Index into the shard's games.
    game_index: Int64Array
    # [B] Serial number of each entry among all that the game's table has ever held.
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
    bootstrap_observations: FrameArray
    # [Q] Whether the observation after the last step is here. If not, and the last discount is
    # not 0, what became of the last step is not known.
    can_bootstrap: BoolArray
    # [Q, ...] What was stored of each first step alone, by the names in replay.columns.
    starts: Columns = field(default_factory=dict)

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
            starts={name: values[part] for name, values in self.starts.items()},
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
    observations: FrameArray
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
