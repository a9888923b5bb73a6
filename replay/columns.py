"""The stored columns of a transition, declared once.

A new column is one more row of COLUMNS, besides whoever fills it (an actor's RowWindow) and whoever
reads it. Everything between follows from the table: chunks and their checks, the ring, batches of
single steps and of sequences, shared memory, snapshots.

Axes of one row of a column:
    F  a frame's own: C, H, W of an image, C of a vector
    A  joint actions
    K  A for each teacher of the game that has most, one after the other; 0 without teachers
    D  teacher features; 0 when they are not stored
    M  what a network with an LSTM remembers
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from replay.types import BoolArray, Columns

Source: TypeAlias = Literal["entry", "chunk", "ring"]
Values: TypeAlias = Literal["any", "finite", "fraction", "priority"]
Travels: TypeAlias = Literal["nowhere", "starts", "sequences", "batches"]
Keeper: TypeAlias = Literal["ring", "links", "frames"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One stored fact of every entry."""

    name: str
    # Type in chunks and batches.
    dtype: type[np.generic]
    # Letters of a row's axes; none for a single number.
    axes: str = ""
    # `entry`: an actor sends it with every entry. `chunk`: it follows from a chunk's other fields,
    # the same for many entries. `ring`: the ring counts it itself.
    source: Source = "entry"
    # `finite`: no nan or infinity, `fraction`: from 0 to 1, `priority`: finite and from 0 on.
    values: Values = "any"
    # The batches that bring it to the learner: none, those of sequences, or all. N-step returns
    # have their own rewards and discounts, so batches of single steps need none. `starts`: those of
    # sequences bring it of each one's first step alone.
    travels: Travels = "nowhere"
    # Type in the ring and in snapshots, where it is narrower than `dtype`.
    stored_dtype: type[np.generic] | None = None
    # The part of a TransitionRing that holds it.
    kept_by: Keeper = "ring"
    # Whether it is stored only where EntryShape.extra_columns names it.
    optional: bool = False


# All columns that replay can store.
COLUMNS: tuple[Column, ...] = (
    # The newest frame of each observation; older ones are earlier entries. Vectors are
    # float32, and finite.
    Column(name="frames", dtype=np.uint8, axes="F", kept_by="frames"),
    # First observation of an episode: frames before it are zeros.
    Column(name="is_first", dtype=np.bool_, kept_by="links"),
    # False for the last observation of a truncated episode, which is never sampled.
    Column(name="is_transition", dtype=np.bool_, kept_by="links"),
    # Joint action ids (ALE ids for Atari).
    Column(name="actions", dtype=np.int64, stored_dtype=np.uint8, travels="batches"),
    # Raw, after the action.
    Column(name="rewards", dtype=np.float32, values="finite", travels="sequences"),
    # 0 where the return ends after the action (game over; a lost life in training), else 1.
    Column(name="discounts", dtype=np.float32, values="fraction", travels="sequences"),
    # Exploration rate of the policy that acted.
    Column(name="epsilons", dtype=np.float32, values="fraction", travels="sequences"),
    # Outputs of the acting student (Q-values when a DQN acts). The student does not learn them, so
    # they are not looked at; its priorities would tell.
    Column(name="student_logits", dtype=np.float16, axes="A", travels="batches"),
    # Teacher Q minus its maximum over legal actions, illegal entries 0.
    Column(name="teacher_logits", dtype=np.float16, axes="K", values="finite", travels="batches"),
    # The teacher's last hidden layer, for feature regression.
    Column(name="teacher_features", dtype=np.float16, axes="D", values="finite", travels="batches"),
    # Maximum over legal actions of the teacher's Q-values.
    Column(name="teacher_values", dtype=np.float32, values="finite", travels="batches"),
    # Probability with which the policy that acted chose the action; for off-policy corrections.
    Column(
        name="behaviour_probabilities",
        dtype=np.float32,
        values="fraction",
        travels="batches",
        optional=True,
    ),
    # What the network that acted remembered of the episode before this observation
    # (networks.memory); a sequence is unrolled from its first step's.
    Column(
        name="memories",
        dtype=np.float16,
        axes="M",
        values="finite",
        travels="starts",
        optional=True,
    ),
    # Initial priority, as the actor sees it; the newest one, once replay has it.
    Column(name="priorities", dtype=np.float32, values="priority"),
    # Encoded version of the weights that acted (networks.weights.WeightsVersion.encode).
    Column(name="weights_versions", dtype=np.int64, source="chunk", travels="batches"),
    # The environment, and the entry's position among all that it has sent.
    Column(name="streams", dtype=np.int64, source="chunk", kept_by="links"),
    Column(name="steps", dtype=np.int64, source="chunk", kept_by="links"),
    # A number that grows with every entry of a table and never comes again.
    Column(name="generations", dtype=np.int64, source="ring"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryShape:
    """Sizes of the axes of one game's entries, and the optional columns that are stored."""

    # One frame: [C, H, W] of an image, [C] of a vector.
    frame_shape: tuple[int, ...]
    # A.
    num_actions: int
    # K.
    num_teacher_actions: int = 0
    # D.
    num_teacher_features: int = 0
    # M.
    memory_size: int = 0
    # Names of the optional columns that are stored.
    extra_columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse optional columns that are not declared."""
        known = [column.name for column in COLUMNS if column.optional]
        for name in self.extra_columns:
            if name not in known:
                raise ValueError(
                    f"replay has no optional column {name!r}; it knows {', '.join(known)}"
                )

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns that are stored of an entry."""
        stored = tuple(c for c in COLUMNS if not c.optional or c.name in self.extra_columns)
        if self.frame_dtype is np.uint8:
            return stored
        return tuple(
            replace(c, dtype=self.frame_dtype, values="finite") if c.kept_by == "frames" else c
            for c in stored
        )

    @property
    def sent_columns(self) -> tuple[Column, ...]:
        """The columns that an actor sends with every entry."""
        return tuple(column for column in self.columns if column.source == "entry")

    def row_shape(self, column: Column) -> tuple[int, ...]:
        """Shape of one row of a column."""
        if column.kept_by == "frames":
            return self.frame_shape
        sizes = {
            "A": self.num_actions,
            "K": self.num_teacher_actions,
            "D": self.num_teacher_features,
            "M": self.memory_size,
        }
        return tuple(sizes[letter] for letter in column.axes)

    @property
    def frame_dtype(self) -> type[np.uint8 | np.float32]:
        """Bytes for images, floats for vectors."""
        return np.float32 if len(self.frame_shape) == 1 else np.uint8

    @property
    def frame_bytes(self) -> int:
        """Memory of one frame."""
        return int(np.prod(self.frame_shape)) * np.dtype(self.frame_dtype).itemsize

    @property
    def row_bytes(self) -> int:
        """Memory of all columns of one entry but its frame."""
        total = 0
        for column in self.columns:
            if column.kept_by != "frames":
                itemsize = np.dtype(column.stored_dtype or column.dtype).itemsize
                total += itemsize * int(np.prod(self.row_shape(column)))
        return total


def wrong_values(values: NDArray[Any], kind: Values) -> str | None:
    """What is wrong with a column's values, as the end of a sentence; None if nothing is."""
    # Written so that nan fails too: a single one would spoil the sum tree or the student.
    if kind == "finite" and not are_finite(values):
        return "must be finite"
    if kind == "fraction" and not np.all((values >= 0) & (values <= 1)):
        return "must lie between 0 and 1"
    if kind == "priority" and not np.all((values >= 0) & (values < np.inf)):
        return "must be finite and not negative"
    return None


# Numbers that `are_finite` looks at in one piece. The C library keeps a large array that is freed
# for as long as its thread lives, and hundreds of threads store chunks.
CHECKED_AT_ONCE = 16_384


def are_finite(values: NDArray[np.generic]) -> bool:
    """Whether there is no nan or infinity; float16 takes a fiftieth of np.isfinite's time."""
    if values.dtype != np.float16:
        return bool(np.isfinite(values).all())
    bits = values.view(np.uint16).reshape(-1)
    for start in range(0, len(bits), CHECKED_AT_ONCE):
        # Without the sign: infinite and nan have all bits of the exponent.
        if int((bits[start : start + CHECKED_AT_ONCE] << 1).max()) >= 0xF800:
            return False
    return True


def check_columns(columns: Columns, *, like: Columns, game: str, above: int) -> None:
    """Raises ValueError unless columns can be put behind those that a ring holds.

    They are in the order of their generations, all `above` the newest that the ring has given out.
    `like` are the ring's own, of any length. Frames are left to their store.
    """
    for name, mine in like.items():
        if name not in columns:
            raise ValueError(f"stored transitions of {game} lack the column {name}")
        array = columns[name]
        if array.shape != (len(columns["actions"]), *mine.shape[1:]):
            raise ValueError(
                f"stored transitions of {game}: a row of {name} has shape {array.shape[1:]}, "
                f"expected {mine.shape[1:]}"
            )
        if array.dtype != mine.dtype:
            raise ValueError(
                f"stored transitions of {game}: {name} has type {array.dtype}, expected "
                f"{mine.dtype}"
            )
    generations = np.concatenate([[above], columns["generations"]])
    if np.any(np.diff(generations) <= 0):
        raise ValueError(f"stored transitions of {game} are not in order")


def select_rows(columns: Columns, rows: BoolArray) -> dict[str, NDArray[Any]]:
    """Some entries of columns that may hold compressed frames."""
    if rows.all():
        return dict(columns)
    chosen = {name: array[rows] for name, array in columns.items() if name != "frame_blobs"}
    if "frame_blobs" in columns:
        chosen["frame_blobs"] = columns["frame_blobs"][np.repeat(rows, columns["frame_sizes"])]
    return chosen
