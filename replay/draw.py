"""Draws one batch out of the tables of several games."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from replay.ring import TableSpec, TransitionRing
from replay.table import PrioritizedTable
from replay.types import Float32Array, Int64Array, ItemKeys, SampleBatch, Successors


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


def draw_batch(
    tables: Sequence[PrioritizedTable],
    counts: Int64Array,
    *,
    loss_weights: Float32Array,
    shard: int,
) -> SampleBatch:
    """Draw transitions and gather all that the learner needs of them.

    Args:
        tables: of all games; those that give transitions must have some that are ready.
        counts: int64 [G], transitions of each game.
        loss_weights: float32 [G], weight of each game's transitions.
        shard: number stamped on the keys.
    """
    size = int(counts.sum())
    spec = tables[0].spec
    observations = np.empty((size, *spec.observation_shape), np.uint8)
    features = np.zeros((size, max(t.spec.num_teacher_features for t in tables)), np.float16)
    rings: list[tuple[TransitionRing, Int64Array]] = []
    inverse_probabilities = []
    start = 0
    for table, count in zip(tables, counts.tolist(), strict=True):
        if not count:
            continue
        slots, inverse = table.sample(count)
        rows = slice(start, start + count)
        table.ring.gather_observations(slots, observations[rows])
        features[rows, : table.spec.num_teacher_features] = table.ring.teacher_features[slots]
        rings.append((table.ring, slots))
        inverse_probabilities.append(inverse)
        start += count
    return SampleBatch(
        games=tuple(table.spec.game for table in tables),
        keys=ItemKeys(
            shard=shard,
            game_index=np.repeat(np.arange(len(counts)), counts),
            slots=np.concatenate([slots for _, slots in rings]),
            generations=np.concatenate([ring.generations[slots] for ring, slots in rings]),
        ),
        observations=observations,
        actions=np.concatenate([ring.actions[slots] for ring, slots in rings]).astype(np.int64),
        student_logits=np.concatenate([ring.student_logits[slots] for ring, slots in rings]),
        teacher_logits=np.concatenate([ring.teacher_logits[slots] for ring, slots in rings]),
        teacher_features=features,
        teacher_values=np.concatenate([ring.teacher_values[slots] for ring, slots in rings]),
        inverse_probabilities=np.concatenate(inverse_probabilities),
        loss_weights=np.repeat(loss_weights, counts),
        weights_versions=np.concatenate([ring.weights_versions[slots] for ring, slots in rings]),
        ages=np.concatenate([r.num_added - 1 - r.generations[slots] for r, slots in rings]),
        successors=_gather_successors(rings, observations.shape) if spec.num_successors else None,
    )


def _gather_successors(
    rings: Sequence[tuple[TransitionRing, Int64Array]], shape: tuple[int, ...]
) -> Successors:
    """Successors of all games' transitions; `shape` is [B, S*C, H, W]."""
    observations = np.empty(shape, np.uint8)
    parts = []
    start = 0
    for ring, slots in rings:
        stop = start + len(slots)
        parts.append(ring.gather_successors(slots, observations[start:stop]))
        start = stop
    return Successors(
        rewards=np.concatenate([part.rewards for part in parts]),
        discounts=np.concatenate([part.discounts for part in parts]),
        lengths=np.concatenate([part.lengths for part in parts]),
        bootstrap_observations=observations,
    )
