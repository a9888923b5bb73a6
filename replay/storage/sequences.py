"""Sequences of consecutive stored steps, for unrolls and for returns over many steps.

A transition is drawn as ever; the sequence is what follows it in its episode, and, if asked for,
some steps before it for a recurrent state to warm up on.

Shape letters:
    B  sequences
    T  columns: burn-in steps, then learning steps
    S*C, H, W  one observation;  A  joint actions
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from replay.storage.links import NO_SLOT
from replay.storage.ring import TransitionRing
from replay.types import (
    BoolArray,
    Float16Array,
    Float32Array,
    Int64Array,
    ItemKeys,
    UInt8Array,
)

_Number = TypeVar("_Number", bound=np.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceSlots:
    """Where the steps of drawn sequences lie."""

    slots: Int64Array
    """[B, T] Column `burn_in` is the transition that was drawn; -1 where the sequence has no step:
    before it begins, or after it ended early."""
    burn_in: int
    """Columns before the one that was drawn."""
    bootstrap_slots: Int64Array
    """[B] Entry after the last step, whose observation a return can bootstrap from; -1 if there is
    none, because the game was over there, or it is not here."""
    inverse_probabilities: Float32Array
    """[B] Of the transition that was drawn; see `SampleBatch`."""

    @property
    def is_step(self) -> BoolArray:
        """[B, T] Where a sequence has a step."""
        is_step: BoolArray = self.slots != NO_SLOT
        return is_step

    @property
    def lengths(self) -> Int64Array:
        """[B] Learning steps, at least 1."""
        lengths: Int64Array = self.is_step[:, self.burn_in :].sum(axis=1, dtype=np.int64)
        return lengths

    @property
    def learning_slots(self) -> Int64Array:
        """Slots of all learning steps, one sequence after the other."""
        slots: Int64Array = self.slots[:, self.burn_in :][self.is_step[:, self.burn_in :]]
        return slots


def check_numbers(num: int, length: int, burn_in: int, *, capacity: int) -> None:
    """Raises ValueError for sequences that cannot be, or are longer than a table's `capacity`."""
    if max(length, burn_in) > capacity:
        raise ValueError(
            f"cannot draw sequences of {length} steps after {burn_in} of burn-in from a table of "
            f"{capacity}; neither can be more"
        )
    if num < 1 or length < 1 or burn_in < 0:
        raise ValueError(
            f"cannot draw {num} sequences of {length} steps after {burn_in} of burn-in; there must "
            "be at least 1 of 1 step, and no fewer than 0 of burn-in"
        )


def follow(
    ring: TransitionRing,
    drawn: Int64Array,
    inverse_probabilities: Float32Array,
    *,
    length: int,
    burn_in: int = 0,
) -> SequenceSlots:
    """Sequences of up to `length` steps from the drawn transitions on.

    A sequence ends early with its episode, at the newest step that the ring has of it, and where a
    step was lost. A life lost does not end it: there its discount is 0, and the game goes on. Steps
    of two episodes or streams are never joined. The burn-in begins late where the episode begins,
    or where an older frame of a stack is gone.

    Args:
        ring: where the transitions are.
        drawn: int64 [B], slots of transitions that are ready.
        inverse_probabilities: float32 [B], of those.
        length: the most learning steps, the drawn transition among them; at least 1.
        burn_in: the most steps before it.
    """
    slots = np.full((len(drawn), burn_in + length), NO_SLOT, np.int64)
    current = drawn.astype(np.int64)
    for column in range(burn_in, burn_in + length):
        here = _where(current, ring.links.is_transition)
        slots[:, column] = np.where(here, current, NO_SLOT)
        if not here.any():
            break
        # The last observation of a truncated episode is no step, but what follows the last one.
        current = np.where(here, _neighbour(ring.links.next, current), current)
    before = _neighbour(ring.links.previous, drawn)
    for column in range(burn_in - 1, -1, -1):
        if np.all(before == NO_SLOT):
            break
        _, complete = ring.history(np.maximum(before, 0))
        before = np.where(complete, before, NO_SLOT)
        slots[:, column] = before
        before = _neighbour(ring.links.previous, before)
    return SequenceSlots(
        slots=slots,
        burn_in=burn_in,
        bootstrap_slots=current,
        inverse_probabilities=inverse_probabilities,
    )


def _neighbour(links: Int64Array, slots: Int64Array) -> Int64Array:
    """[B] Slot that each slot's link leads to; -1 from -1."""
    return np.where(slots == NO_SLOT, NO_SLOT, links[slots])


def _where(slots: Int64Array, flags: BoolArray) -> BoolArray:
    """[B] The flag of each slot; False of -1."""
    found: BoolArray = (slots != NO_SLOT) & flags[slots]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceBatch:
    """Sequences of one game. Where `is_step` is False, all else is 0."""

    game: str
    keys: ItemKeys
    """[B] Of the transitions that were drawn, for new priorities."""
    burn_in: int
    """Columns before the one that was drawn."""
    is_step: BoolArray
    """[B, T]"""
    lengths: Int64Array
    """[B] Learning steps, from column `burn_in` on."""
    observations: UInt8Array
    """[B, T, S*C, H, W] Oldest frame first."""
    actions: Int64Array
    """[B, T]"""
    rewards: Float32Array
    """[B, T] Raw."""
    discounts: Float32Array
    """[B, T] 0 where the return ends, as at a life lost, although the sequence goes on."""
    epsilons: Float32Array
    """[B, T] Exploration rate of the policy that acted."""
    student_logits: Float16Array
    """[B, T, A] As they were when acting."""
    teacher_logits: Float16Array
    """[B, T, A]"""
    teacher_values: Float32Array
    """[B, T]"""
    weights_versions: Int64Array
    """[B, T] Encoded version of the weights that acted."""
    can_bootstrap: BoolArray
    """[B] Whether the observation after the last step is here. If not, and the last discount is
    not 0, what became of the last step is not known."""
    bootstrap_observations: UInt8Array
    """[B, S*C, H, W] Observation after the last step."""
    inverse_probabilities: Float32Array
    """[B] 1 / (N * P) of the transition that was drawn; see SampleBatch."""

    @property
    def num_bytes(self) -> int:
        """Of all arrays but the keys'."""
        values = (getattr(self, field.name) for field in fields(self))
        return sum(value.nbytes for value in values if isinstance(value, np.ndarray))


def gather_sequences(
    ring: TransitionRing, sequences: SequenceSlots, *, shard: int, game_index: int
) -> SequenceBatch:
    """Copy all that is stored of some sequences; `shard` and `game_index` go into the keys."""
    is_step = sequences.is_step
    slots = np.maximum(sequences.slots, 0)
    can_bootstrap = sequences.bootstrap_slots != NO_SLOT
    drawn = sequences.slots[:, sequences.burn_in]

    def column(values: NDArray[_Number]) -> NDArray[_Number]:
        gathered: NDArray[_Number] = values[slots]
        gathered[~is_step] = 0
        return gathered

    return SequenceBatch(
        game=ring.spec.game,
        keys=ItemKeys(
            shard=shard,
            game_index=np.full(len(drawn), game_index, np.int64),
            slots=drawn,
            generations=ring.generations[drawn],
        ),
        burn_in=sequences.burn_in,
        is_step=is_step,
        lengths=sequences.lengths,
        observations=_observations(ring, sequences.slots),
        actions=column(ring.actions).astype(np.int64),
        rewards=column(ring.rewards),
        discounts=column(ring.discounts),
        epsilons=column(ring.epsilons),
        student_logits=column(ring.student_logits),
        teacher_logits=column(ring.teacher_logits),
        teacher_values=column(ring.teacher_values),
        weights_versions=column(ring.weights_versions),
        can_bootstrap=can_bootstrap,
        bootstrap_observations=_observations(ring, sequences.bootstrap_slots),
        inverse_probabilities=sequences.inverse_probabilities,
    )


def _observations(ring: TransitionRing, slots: Int64Array) -> UInt8Array:
    """uint8 [..., S*C, H, W] of slots [...]; zeros for -1."""
    out = np.zeros((*slots.shape, *ring.spec.observation_shape), np.uint8)
    here = slots != NO_SLOT
    found = np.empty((np.count_nonzero(here), *ring.spec.observation_shape), np.uint8)
    ring.gather_observations(slots[here], found)
    out[here] = found
    return out
