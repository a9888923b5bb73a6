"""Draws one batch out of the tables of several games."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from replay.batches.batch_layout import BatchLayout
from replay.storage.ring import TableSpec, TransitionRing
from replay.storage.table import Drawn, ReplayTable
from replay.types import SampleBatch


def check_tables(tables: Sequence[TableSpec]) -> None:
    """Raises ValueError unless transitions of all the tables fit into one batch."""
    if not tables:
        raise ValueError("a replay shard needs at least one game")
    games = [spec.game for spec in tables]
    if len(set(games)) != len(games):
        raise ValueError(f"a replay shard was given two tables of one game: {', '.join(games)}")
    first = tables[0]
    for spec in tables[1:]:
        for name in ("observation_shape", "num_actions", "num_teacher_actions", "num_successors"):
            mine, other = getattr(first, name), getattr(spec, name)
            if mine != other:
                raise ValueError(
                    f"{first.game} and {spec.game} do not fit into one batch: {name} is {mine} "
                    f"and {other}"
                )


def empty_batch(specs: Sequence[TableSpec], batch_size: int, *, shard: int) -> SampleBatch:
    """A batch of these tables' transitions in new memory, to be filled by `draw_batch`."""
    layout = BatchLayout.of_tables(specs, batch_size)
    return layout.batch(np.empty(layout.num_bytes, np.uint8), shard=shard)


def draw_batch(
    tables: Sequence[ReplayTable],
    counts: Sequence[int],
    *,
    loss_weights: Sequence[float],
    out: SampleBatch,
) -> None:
    """Draw transitions and gather all that the learner needs of them into `out`.

    Args:
        tables: of all games; those that give transitions must have some that are ready.
        counts: [G], transitions of each game.
        loss_weights: [G], weight of each game's transitions.
        out: a batch of as many transitions, whose arrays are filled.
    """
    drawn = []
    start = 0
    for index, count in enumerate(counts):
        if count:
            rows = slice(start, start + count)
            out.keys.game_index[rows] = index
            out.loss_weights[rows] = loss_weights[index]
            table = tables[index]
            found = table.sample(count)
            _fill_labels(table.ring, found, out, rows)
            drawn.append((table.ring, found.slots, rows))
            start += count
    # Last, of all games: they are megabytes, and drive all else out of the processor's caches.
    for ring, slots, rows in drawn:
        ring.gather_observations(slots, out.observations[rows])
        if out.successors is not None:
            ring.gather_successors(slots, out.successors.rows(rows))


def _fill_labels(ring: TransitionRing, drawn: Drawn, out: SampleBatch, rows: slice) -> None:
    """Copy what is known of transitions [B], but for frames, to some rows of a batch."""
    slots = drawn.slots
    out.keys.slots[rows] = slots
    out.keys.generations[rows] = drawn.generations
    out.ages[rows] = drawn.ages
    out.inverse_probabilities[rows] = drawn.inverse_probabilities
    out.actions[rows] = ring.actions.take(slots)
    for name in _GATHERED:
        # Clipped instead of checked: only then does NumPy copy straight to where it is told to.
        getattr(ring, name).take(slots, axis=0, out=getattr(out, name)[rows], mode="clip")
    width = ring.spec.num_teacher_features
    features = out.teacher_features[rows]
    if width:
        # As for frames (frame_store.py): rows lie all over memory, and are asked for all at once.
        ring.teacher_features[:, 0][slots]
    if width == features.shape[1]:
        ring.teacher_features.take(slots, axis=0, out=features, mode="clip")
    else:
        features[:, :width] = ring.teacher_features[slots]
        features[:, width:] = 0


_GATHERED = ("student_logits", "teacher_logits", "teacher_values", "weights_versions")
