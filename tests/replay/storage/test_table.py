"""Drawing by priority, importance, stale keys, counts, and chunks that are refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from replay_chunks import (
    Entry,
    EpisodeWriter,
    chunk_of,
    make_spec,
)

from replay.samplers import ProportionalSampler
from replay.storage.table import ReplayTable


def make_table(*, exponent: float = 0.6, seed: int = 0, **spec) -> ReplayTable:
    shape = make_spec(**spec)
    return ReplayTable(
        shape,
        sampler=ProportionalSampler(shape.capacity, exponent=exponent),
        rng=np.random.default_rng(seed),
    )


def filled_table(priorities, *, exponent: float = 0.6, seed: int = 0) -> ReplayTable:
    """One transition for each priority, all ready, in slots 0, 1, ..."""
    table = make_table(exponent=exponent, seed=seed, num_stack=1, capacity=4 * len(priorities) + 4)
    writer = EpisodeWriter()
    entries: list[Entry] = []
    for priority in priorities:
        entries += writer.play(0, ".", priority=priority)
    table.add(chunk_of(entries))
    return table


def frequencies(table: ReplayTable, num_transitions: int, *, draws: int, size: int):
    counts = np.zeros(num_transitions)
    for _ in range(draws // size):
        slots = table.sample(size).slots
        counts += np.bincount(slots, minlength=num_transitions)
    return counts / counts.sum()


@pytest.mark.parametrize("size", [500, 10_000])
@pytest.mark.parametrize("exponent", [0.3, 0.6, 1.0])
def test_transitions_are_drawn_in_proportion_to_priority_to_the_exponent(exponent, size):
    priorities = np.random.default_rng(0).uniform(0.2, 2.0, 20).astype(np.float32)
    table = filled_table(priorities, exponent=exponent, seed=1)
    expected = priorities.astype(float) ** exponent
    observed = frequencies(table, 20, draws=100_000, size=size)
    np.testing.assert_allclose(observed, expected / expected.sum(), rtol=1e-2)


def test_chunk_of_more_than_half_the_capacity_is_refused_and_leaves_the_table_as_it_was():
    table = make_table(capacity=8)
    before = pickle.dumps(table)
    with pytest.raises(ValueError, match=r"chunk of 5 entries is too large .* capacity of 8"):
        table.add(chunk_of(EpisodeWriter().play(0, ".....")))
    assert pickle.dumps(table) == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t._is_ready.__setitem__(0, False), "not among the ready"),
        (lambda t: setattr(t._sampler, "_size", 1), "number of ready transitions"),
        (lambda t: t.ring["priorities"].__setitem__(0, 7.0), "does not hold the priorities"),
        (lambda t: t._sampler._tree.set(np.array([0]), 0.0), "does not hold the priorities"),
    ],
)
def test_check_valid_finds_damage(damage, message):
    table = filled_table([1.0, 2.0])
    table.check_valid()
    damage(table)
    with pytest.raises(ValueError, match=message):
        table.check_valid()
