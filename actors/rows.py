"""An actor's window on the last steps of its environments, cut into chunks for replay.

One row is one step of the whole vector. The window keeps the last `num_lookahead` rows back when
it gives a chunk away, so that a row's n-step return is known before it leaves.

Shape letters: R rows of the window, T rows given away at once, N environments, A joint actions,
D teacher features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from replay.types import STREAMS_PER_ACTOR_BITS, BoolArray, Chunk


class RowWindow:
    """The columns of a chunk, still as [R, N] rows."""

    def __init__(
        self,
        *,
        num_envs: int,
        chunk_steps: int,
        num_lookahead: int,
        frame_shape: tuple[int, int, int],
        num_actions: int,
        num_teacher_actions: int,
        num_teacher_features: int,
    ) -> None:
        """Allocate R = num_lookahead + chunk_steps rows, all empty."""
        rows = num_lookahead + chunk_steps
        self.chunk_steps = chunk_steps
        self.num_lookahead = num_lookahead
        shape = (rows, num_envs)
        self.frames = np.zeros((*shape, *frame_shape), np.uint8)
        self.is_first = np.zeros(shape, np.bool_)
        self.is_entry: BoolArray = np.zeros(shape, np.bool_)
        """False where nothing is stored: the last observation of a game that really ended."""
        self.is_transition = np.zeros(shape, np.bool_)
        self.actions = np.zeros(shape, np.int64)
        self.rewards = np.zeros(shape, np.float32)
        self.discounts = np.ones(shape, np.float32)
        self.epsilons = np.zeros(shape, np.float32)
        self.student_logits = np.zeros((*shape, num_actions), np.float32)
        self.teacher_logits = np.zeros((*shape, num_teacher_actions), np.float32)
        self.teacher_features = np.zeros((*shape, num_teacher_features), np.float32)
        self.teacher_values = np.zeros(shape, np.float32)
        self._entries_given = np.zeros(num_envs, np.int64)

    def advance(self) -> None:
        """Make room for the next rows, keeping those that were held back."""
        kept = self.num_lookahead
        if not kept:
            return
        for column in self._columns():
            column[:kept] = column[-kept:].copy()

    def _columns(self) -> list[NDArray[Any]]:
        return [value for value in vars(self).values() if _is_column(value)]

    def take_chunk(
        self, *, game: str, actor_serial: int, priorities: NDArray[np.float32], weights_version: int
    ) -> Chunk:
        """The oldest T rows as a chunk, ordered by environment, then by time.

        Args:
            game: of this actor.
            actor_serial: number of this actor, unique in the run.
            priorities: float32 [T, N].
            weights_version: encoded version that acted last. The rows that were held back before
                may have been played by the version before it.
        """
        entries = self.is_entry[: self.chunk_steps].T

        def flat(column: NDArray[Any]) -> Any:
            # One boolean gather per column: [T, N, ...] -> [N, T, ...] -> [E, ...].
            return column[: self.chunk_steps].swapaxes(0, 1)[entries]

        lengths = entries.sum(axis=1).astype(np.int64)
        first_steps = self._entries_given.copy()
        self._entries_given += lengths
        streams = (actor_serial << STREAMS_PER_ACTOR_BITS) + np.arange(len(lengths))
        return Chunk(
            game=game,
            streams=streams,
            first_steps=first_steps,
            lengths=lengths,
            frames=flat(self.frames),
            is_first=flat(self.is_first),
            is_transition=flat(self.is_transition),
            actions=flat(self.actions),
            rewards=flat(self.rewards),
            discounts=flat(self.discounts),
            epsilons=flat(self.epsilons),
            student_logits=flat(self.student_logits).astype(np.float16),
            teacher_logits=flat(self.teacher_logits).astype(np.float16),
            teacher_features=flat(self.teacher_features).astype(np.float16),
            teacher_values=flat(self.teacher_values),
            priorities=flat(priorities),
            weights_version=weights_version,
        )


def _is_column(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.ndim >= 2
