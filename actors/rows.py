"""An actor's window on the last steps of its environments, cut into chunks for replay.

One row is one step of the whole vector. The window keeps the last `num_lookahead` rows back when
it gives a chunk away, so that a row's n-step return is known before it leaves.

Shape letters: R rows of the window, T rows given away at once, N environments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from replay.columns import EntryShape
from replay.types import STREAMS_PER_ACTOR_BITS, BoolArray, Chunk


class RowWindow:
    """The columns that are sent of every entry (replay.columns), still as [R, N, ...] rows."""

    def __init__(
        self, entry: EntryShape, *, num_envs: int, chunk_steps: int, num_lookahead: int
    ) -> None:
        """Allocate R = num_lookahead + chunk_steps rows, all empty."""
        self.chunk_steps = chunk_steps
        self.num_lookahead = num_lookahead
        self.num_envs = num_envs
        rows = (num_lookahead + chunk_steps, num_envs)
        # [R, N] False where nothing is stored: a game's last observation, when it really ended.
        self.is_entry: BoolArray = np.zeros(rows, np.bool_)
        self._dtypes = {column.name: column.dtype for column in entry.sent_columns}
        self._columns: dict[str, NDArray[Any]] = {}
        for column in entry.sent_columns:
            # Who acts or judges by what networks gave does so before it is rounded.
            dtype = np.float32 if column.dtype is np.float16 else column.dtype
            self._columns[column.name] = np.zeros((*rows, *entry.row_shape(column)), dtype)
        self._entries_given = np.zeros(num_envs, np.int64)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """One column [R, N, ...], to be read and written; halves are whole floats here."""
        return self._columns[name]

    def advance(self) -> None:
        """Make room for the next rows, keeping those that were held back."""
        kept = self.num_lookahead
        if not kept:
            return
        for column in (self.is_entry, *self._columns.values()):
            column[:kept] = column[-kept:].copy()

    def take_chunk(
        self, *, game: str, actor_serial: int, priorities: NDArray[np.float32], weights_version: int
    ) -> Chunk:
        """The oldest T rows as a chunk, ordered by environment, then by time.

        Args:
            game: what this actor plays.
            actor_serial: number of this actor, unique in the run.
            priorities: float32 [T, N].
            weights_version: encoded version that acted last. The rows that were held back before
                may have been played by the version before it.
        """
        count = self.chunk_steps
        self["priorities"][:count] = priorities
        entries = self.is_entry[:count].T
        lengths = entries.sum(axis=1).astype(np.int64)
        first_steps = self._entries_given.copy()
        self._entries_given += lengths
        streams = (actor_serial << STREAMS_PER_ACTOR_BITS) + np.arange(len(lengths))
        return Chunk(
            game=game,
            streams=streams,
            first_steps=first_steps,
            lengths=lengths,
            # One boolean gather per column: [T, N, ...] -> [N, T, ...] -> [E, ...].
            columns={
                name: column[:count].swapaxes(0, 1)[entries].astype(self._dtypes[name], copy=False)
                for name, column in self._columns.items()
            },
            weights_version=weights_version,
        )
