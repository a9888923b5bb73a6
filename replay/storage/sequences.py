"""Sequences of consecutive stored steps, for unrolls and for returns over many steps.

A transition is drawn as ever; the sequence is what follows it in its episode.

Shape letters:
    Q  sequences
    T  steps of each, at the most
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replay.storage.links import NO_SLOT, StreamLinks
from replay.types import BoolArray, Int64Array


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceSlots:
    """Where the steps of drawn sequences lie."""

    # [Q, T] Column 0 is the transition that was drawn; a sequence that ended early repeats its
    # last step.
    slots: Int64Array
    # [Q] Steps of each sequence, at least 1; what lies behind them is repetition.
    num_steps: Int64Array
    # [Q] Entry after the last step, whose observation a return can bootstrap from; -1 if there is
    # none, because the game was over there, or it is not here.
    bootstrap_slots: Int64Array

    @property
    def is_step(self) -> BoolArray:
        """[Q, T] False for repetitions."""
        is_step: BoolArray = np.arange(self.slots.shape[1]) < self.num_steps[:, None]
        return is_step


def follow(links: StreamLinks, drawn: Int64Array, *, length: int) -> SequenceSlots:
    """Sequences of up to `length` steps from the drawn transitions [Q] on, which are ready.

    A sequence ends early with its episode, at the newest step that the ring has of it, and where a
    step was lost. A life lost does not end it: there its discount is 0, and the game goes on. Steps
    of two episodes or streams are never joined.
    """
    path = links.path(drawn, length).T
    # The last observation of a truncated episode is no step, but what follows the last one.
    is_step = links.is_transition[path[:, :-1]] & (path[:, :-1] != NO_SLOT)
    num_steps = is_step.sum(axis=1)
    rows = np.arange(len(drawn))
    last = path[rows, num_steps - 1]
    return SequenceSlots(
        slots=np.where(is_step, path[:, :-1], last[:, None]),
        num_steps=num_steps,
        bootstrap_slots=path[rows, num_steps],
    )
