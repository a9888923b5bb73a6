"""What a table tells of itself at a bounded cost."""

from __future__ import annotations

import numpy as np
from replay_chunks import EpisodeWriter, chunk_of, make_spec
from sampler_cases import build_case

from replay.storage.table import QUANTILES, RecentValues, ReplayTable, quantiles_of, spread_slots


def test_quantiles_of_a_table_by_hand():
    spec = make_spec(num_stack=1, capacity=16)
    table = ReplayTable(
        spec, sampler=build_case("uniform", spec.capacity), rng=np.random.default_rng(0)
    )
    assert table.priority_quantiles() == table.age_quantiles() == ()
    writer = EpisodeWriter()
    entries = [e for p in (4.0, 1.0, 3.0) for e in writer.play(0, ".", priority=p)]
    table.add(chunk_of([*entries, *writer.play(0, "t", priority=9.0)]))  # Entries 0 to 4.
    table.sample(4)  # Every transition once: ages 4, 3, 2, 1.
    assert table.priority_quantiles() == tuple(np.quantile([4.0, 1.0, 3.0, 9.0], QUANTILES))
    assert table.age_quantiles() == tuple(np.quantile([1.0, 2.0, 3.0, 4.0], QUANTILES))


def test_recent_values_are_the_last_4096_whatever_the_sizes_they_come_in():
    recent = RecentValues()
    rng = np.random.default_rng(0)
    everything = np.zeros(0, np.int64)
    for size in [0, 5, 4_000, 1_000, 4_096, 10_000, 3, 0, 4_095]:
        values = rng.integers(1 << 40, size=size)
        recent.add(values)
        everything = np.concatenate([everything, values])
        assert recent.held().tolist() == everything[-4_096:].tolist()
        assert sum(map(len, recent._parts)) <= 4_096 + 10_000  # Nothing older than the last need.
    for _ in range(3 * 4_096):
        recent.add(np.zeros(1, np.int64))
    assert len(recent._parts) == 4_096


def test_spread_slots_are_bounded_different_and_reach_from_the_first_to_near_the_last():
    assert spread_slots(0).tolist() == []
    assert spread_slots(4_096).tolist() == list(range(4_096))
    slots = spread_slots(1_000_003)
    assert len(np.unique(slots)) == 4_096
    assert slots[0] == 0
    assert 1_000_003 - 245 <= slots[-1] < 1_000_003


def test_quantiles_of_float32_do_not_lose_the_extremes():
    values = np.array([0.0, 3.0e38, 1.0], np.float32)
    assert quantiles_of(values)[0] == 0.0
    assert quantiles_of(values)[-1] == float(np.float32(3.0e38))
    assert quantiles_of(values[:0]) == ()
