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
    C, H, W  one frame;  S  frames per observation
    A  joint actions;  D  teacher features (0 when they are not stored)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

UInt8Array: TypeAlias = NDArray[np.uint8]
Int32Array: TypeAlias = NDArray[np.int32]
Int64Array: TypeAlias = NDArray[np.int64]
Float16Array: TypeAlias = NDArray[np.float16]
Float32Array: TypeAlias = NDArray[np.float32]
Float64Array: TypeAlias = NDArray[np.float64]
BoolArray: TypeAlias = NDArray[np.bool_]

STREAMS_PER_ACTOR_BITS = 16
"""A stream's number is its actor's serial number, shifted, plus the environment's index."""

MAX_STEP = 1 << 62
"""Of a stream; what comes after it still has a number."""

CHUNK_LAYOUT_VERSION = 1
"""Of what is in a chunk and what it means; raised whenever that changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """What an actor sends at once: runs of consecutive entries of some of its streams."""

    game: str
    streams: Int64Array
    """[R] Stream of each run, all of one actor. A restarted actor takes new ones, never old."""
    first_steps: Int64Array
    """[R] Position of each run's first entry in its stream; a jump means that a chunk was lost."""
    lengths: Int64Array
    """[R] Entries in each run; they sum to E."""
    frames: UInt8Array
    """[E, C, H, W] The newest frame of each observation. Older ones are earlier entries."""
    is_first: BoolArray
    """[E] First observation of an episode: frames before it are zeros."""
    is_transition: BoolArray
    """[E] False for the last observation of a truncated episode, which is never sampled."""
    actions: Int64Array
    """[E] Joint action ids (ALE ids for Atari)."""
    rewards: Float32Array
    """[E] Raw, after the action."""
    discounts: Float32Array
    """[E] 0 where the return ends after the action (game over; a lost life in training), else 1."""
    epsilons: Float32Array
    """[E] Exploration rate of the policy that acted."""
    student_logits: Float16Array
    """[E, A] Outputs of the acting student (Q-values when a DQN acts)."""
    teacher_logits: Float16Array
    """[E, A] Teacher Q minus its maximum over legal actions, illegal entries 0; A = 0 without."""
    teacher_features: Float16Array
    """[E, D]"""
    teacher_values: Float32Array
    """[E] Maximum over legal actions of the teacher's Q-values."""
    priorities: Float32Array
    """[E] Initial priority, as the actor sees it; non-negative."""
    weights_version: int
    """Encoded version of the weights that acted (networks.weights.WeightsVersion.encode)."""
    layout_version: int = CHUNK_LAYOUT_VERSION
    """Replay refuses any other than its own."""

    @property
    def num_entries(self) -> int:
        """E."""
        return len(self.frames)

    @property
    def num_bytes(self) -> int:
        """Of all arrays."""
        return sum(getattr(self, name).nbytes for name in _CHUNK_ARRAYS)

    @property
    def num_transitions(self) -> int:
        """Entries that can be sampled one day."""
        return int(np.count_nonzero(self.is_transition))

    def check(self) -> None:
        """Raises ValueError if the arrays do not fit each other or hold what must not be stored."""
        self._check_layout()
        self._check_arrays()
        self._check_runs()
        self._check_values()

    def _check_layout(self) -> None:
        # A chunk that was pickled before there were versions comes back without the field.
        version = getattr(self, "layout_version", 0)
        if type(version) is not int or version != CHUNK_LAYOUT_VERSION:
            raise ValueError(
                f"chunk of {self.game}: it has layout {version}, but this replay stores layout "
                f"{CHUNK_LAYOUT_VERSION}; run actors and replay from the same version of the code"
            )

    def _check_arrays(self) -> None:
        for name, (dtype, num_axes) in _CHUNK_ARRAYS.items():
            array = getattr(self, name)
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
                    f"chunk of {self.game}: {name} has type {array.dtype}, expected "
                    f"{np.dtype(dtype)}"
                )
        for name in _CHUNK_ARRAYS:
            array = getattr(self, name)
            expected = len(self.lengths) if name in _RUN_ARRAYS else self.num_entries
            if len(array) != expected:
                raise ValueError(
                    f"chunk of {self.game}: {name} has shape {array.shape}, not {expected} rows"
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
        if not isinstance(version, int | np.integer) or not 0 <= version < 1 << 63:
            raise ValueError(f"chunk of {self.game}: weights_version must be an int of 63 bits")
        # Written so that nan fails too: a single one would spoil the sum tree or the student.
        if not np.all((self.priorities >= 0) & (self.priorities < np.inf)):
            raise ValueError(f"chunk of {self.game}: priorities must be finite and not negative")
        # The student learns these; of its own logits, which it does not, the priorities would tell.
        for name in ("rewards", "teacher_values", "teacher_logits", "teacher_features"):
            if not are_finite(getattr(self, name)):
                raise ValueError(f"chunk of {self.game}: {name} must be finite")
        for name in ("epsilons", "discounts"):
            values = getattr(self, name)
            if not np.all((values >= 0) & (values <= 1)):
                raise ValueError(f"chunk of {self.game}: {name} must lie between 0 and 1")


CHECKED_AT_ONCE = 16_384
"""Numbers that `are_finite` looks at in one piece. The C library keeps a large array that is freed
for as long as its thread lives, and hundreds of threads store chunks."""


def are_finite(values: NDArray[np.generic]) -> bool:
    """As np.isfinite(values).all(), which takes fifty times as long for float16."""
    if values.dtype != np.float16:
        return bool(np.isfinite(values).all())
    bits = values.view(np.uint16).reshape(-1)
    for start in range(0, len(bits), CHECKED_AT_ONCE):
        # Without the sign: infinite and nan have all bits of the exponent.
        if int((bits[start : start + CHECKED_AT_ONCE] << 1).max()) >= 0xF800:
            return False
    return True


_RUN_ARRAYS = ("streams", "first_steps", "lengths")
# Type and number of axes of a chunk's arrays.
_CHUNK_ARRAYS: dict[str, tuple[type[np.generic], int]] = {
    "streams": (np.int64, 1),
    "first_steps": (np.int64, 1),
    "lengths": (np.int64, 1),
    "frames": (np.uint8, 4),
    "is_first": (np.bool_, 1),
    "is_transition": (np.bool_, 1),
    "actions": (np.int64, 1),
    "rewards": (np.float32, 1),
    "discounts": (np.float32, 1),
    "epsilons": (np.float32, 1),
    "student_logits": (np.float16, 2),
    "teacher_logits": (np.float16, 2),
    "teacher_features": (np.float16, 2),
    "teacher_values": (np.float32, 1),
    "priorities": (np.float32, 1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Successors:
    """The n steps that follow each sampled transition, for n-step returns."""

    rewards: Float32Array
    """[B, N] Raw rewards of the transition itself and its successors; 0 from `lengths` on."""
    discounts: Float32Array
    """[B, N] 0 where the return ends; unspecified from `lengths` on."""
    lengths: Int64Array
    """[B] Steps until the bootstrap observation: N, or fewer before a truncation."""
    bootstrap_observations: UInt8Array
    """[B, S*C, H, W] Observation after `lengths` steps; zeros where the return ended before."""

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
    game_index: Int64Array
    """[B] Index into the shard's games."""
    slots: Int64Array
    """[B]"""
    generations: Int64Array
    """[B] Serial number of the entry that was in the slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleBatch:
    """What the learner gets: transitions of all games, ordered by game."""

    games: tuple[str, ...]
    keys: ItemKeys
    observations: UInt8Array
    """[B, S*C, H, W] Oldest frame first."""
    actions: Int64Array
    """[B]"""
    student_logits: Float16Array
    """[B, A] As they were when acting."""
    teacher_logits: Float16Array
    """[B, A]"""
    teacher_features: Float16Array
    """[B, D] D of the widest game, zeros behind a narrower game's features."""
    teacher_values: Float32Array
    """[B]"""
    inverse_probabilities: Float32Array
    """[B] 1 / (N * P): N transitions of the game can be drawn, this one with probability P."""
    loss_weights: Float32Array
    """[B] Restore the configured balance of the games present when one yielded part of its share;
    mean 1."""
    weights_versions: Int64Array
    """[B] Encoded version of the weights that acted."""
    ages: Int64Array
    """[B] Entries of the same game that this shard has stored since."""
    successors: Successors | None

    @property
    def game_index(self) -> Int64Array:
        """[B] Index into `games`."""
        return self.keys.game_index

    @property
    def batch_size(self) -> int:
        """B."""
        return len(self.actions)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityUpdate:
    """New priorities for transitions that were sampled earlier."""

    keys: ItemKeys
    priorities: Float32Array
    """[B] Non-negative and finite."""

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
