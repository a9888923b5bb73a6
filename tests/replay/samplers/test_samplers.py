"""What every sampler promises, each against a slow one written from its paper."""

from __future__ import annotations

import itertools
import tracemalloc
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from replay_chunks import make_spec
from sampler_cases import (
    EVERY,
    EXACT,
    EXPONENT,
    build_case,
    build_hierarchy,
    edges_of,
    expected,
)
from slow_samplers import Item, SlowHierarchy, slow_rank

from replay.config import (
    PartitionCorrection,
    PartitionDraw,
    PartitionEdges,
    PartitionOrder,
    ReplayConfig,
    SamplerKind,
)
from replay.samplers import (
    HierarchicalSampler,
    RankBasedSampler,
    RecentSampler,
    Sampler,
    build_sampler,
    sampler_bytes,
)

CAPACITY = 64
every_sampler = pytest.mark.parametrize("name", EVERY)


def filled(name: str, *, size: int = 20, seed: int = 0) -> tuple[Sampler, list[int], list[Item]]:
    """A sampler that some slots have entered, left and changed in, and what it should hold."""
    rng = np.random.default_rng(seed)
    sampler = build_case(name, CAPACITY)
    priorities = rng.uniform(0.2, 2.0, CAPACITY).astype(np.float32)
    priorities[5] = priorities[6]
    values = rng.normal(0.0, 3.0, CAPACITY).astype(np.float32)
    order = rng.permutation(CAPACITY)
    for slots in np.split(order[: size + 10], [3, 4, 17]):
        sampler.admit(slots, priorities[slots], values[slots])
    sampler.retire(order[:10])
    slots = np.sort(order[10 : size + 10])
    changed = slots[::3]
    priorities[changed] = rng.uniform(0.2, 2.0, len(changed))
    sampler.update(changed, priorities[changed])
    sampler.check_valid(slots, priorities[slots], values[slots])
    items = [Item(priority=float(priorities[s]), value=float(values[s])) for s in slots]
    return sampler, slots.tolist(), items


@pytest.mark.parametrize("size", [50, 2_000])
@pytest.mark.parametrize("name", EXACT)
def test_frequencies_are_those_of_the_paper(name, size):
    sampler, slots, items = filled(name)
    rng = np.random.default_rng(1)
    counts = np.zeros(CAPACITY)
    num_draws = 200_000 // size
    for _ in range(num_draws):
        drawn, _ = sampler.draw(size, rng)
        counts += np.bincount(drawn, minlength=CAPACITY)
    probabilities, _ = expected(name, items, edges_of(sampler))
    assert set(np.flatnonzero(counts)) == set(slots)
    # 200,000 draws of at least 1 in 100: a standard deviation of at most 2.2 %, less by equal
    # parts.
    np.testing.assert_allclose(counts[slots] / (num_draws * size), probabilities, rtol=0.04)


SETTINGS = [
    {"sampler": "uniform"},
    {"sampler": "proportional"},
    {"sampler": "rank"},
    *(
        {
            "sampler": "hierarchical",
            "partition_draw": draw,
            "partition_order": order,
            "partition_correction": correction,
            "partition_edges": edges,
        }
        for draw, order, correction, edges in itertools.product(
            get_args(PartitionDraw),
            get_args(PartitionOrder),
            get_args(PartitionCorrection),
            get_args(PartitionEdges),
        )
    ),
]
"""All that a run's settings can choose between."""
NUM_SLOTS = 1_600


def used_sampler(sampler: Sampler, *, seed: int) -> Sampler:
    """Some 1,100 slots that have entered, changed and left since all were ranked, a few at a time:
    where there are ranks, they have drifted.
    """
    rng = np.random.default_rng(seed)
    priorities = rng.uniform(0.2, 2.0, NUM_SLOTS).astype(np.float32)
    values = rng.normal(0.0, 3.0, NUM_SLOTS).astype(np.float32)
    order = rng.permutation(NUM_SLOTS)
    held = order[:1_100]
    sampler.admit(held, priorities[held], values[held])
    sampler.draw(2_000, rng)  # Ranks all, in every partition.
    # Of all values alike, and so few that they are not ranked anew.
    changed = held[np.argsort(values[held])[::40]]
    sampler.update(changed, priorities[changed][::-1].copy())
    sampler.retire(held[np.argsort(values[held])[7::100]])
    new = order[1_100:1_110]
    sampler.admit(new, priorities[new], values[new])
    return sampler


def count_draws(
    sampler: Sampler, *, size: int = 250, num_draws: int = 400
) -> tuple[np.ndarray, np.ndarray]:
    """How often each slot comes in 100,000, and its inverse probability, which stays the same."""
    rng = np.random.default_rng(4)
    counts, inverse = np.zeros(NUM_SLOTS, np.int64), np.zeros(NUM_SLOTS)
    for _ in range(num_draws):
        drawn, given = sampler.draw(size, rng)
        counts += np.bincount(drawn, minlength=NUM_SLOTS)
        known = inverse[drawn] != 0
        np.testing.assert_array_equal(inverse[drawn][known], given[known])
        inverse[drawn] = given
    return counts, inverse


def probabilities_told(sampler: Sampler, inverse: np.ndarray) -> np.ndarray:
    """P of each slot, as its inverse probability has it; 0 where that is 0."""
    told = np.divide(1.0, len(sampler) * inverse, out=np.zeros(NUM_SLOTS), where=inverse != 0)
    if isinstance(sampler, HierarchicalSampler):
        if sampler._correction == "full" or sampler._draw_by == "size":
            return told
        # These are 1 / (N_j * P_j), and each of the partitions has the same probability.
        sizes = sampler.sizes
        where = np.maximum(sampler._partition_of, 0)
        return told * len(sampler) / sizes[where] / np.count_nonzero(sizes)
    return told


def excess(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """Pearson's statistic of counts, in standard deviations above its mean for true P.

    Less for one draw from each of equal parts, whose counts scatter less.
    """
    expected_counts = counts.sum() * probabilities
    drawn = expected_counts > 0
    freedom = np.count_nonzero(drawn) - 1
    squares = (counts[drawn] - expected_counts[drawn]) ** 2 / expected_counts[drawn]
    return float((squares.sum() - freedom) / np.sqrt(2 * freedom))


def name_of(settings: dict[str, str]) -> str:
    return " ".join(settings.values())


@pytest.mark.parametrize("settings", SETTINGS, ids=name_of)
def test_frequencies_are_those_that_the_inverse_probabilities_tell(settings):
    spec = make_spec(capacity=NUM_SLOTS)
    sampler = used_sampler(build_sampler(ReplayConfig(**settings), spec), seed=0)
    if settings["sampler"] == "hierarchical":
        assert np.all(sampler.sizes > 0)
    counts, inverse = count_draws(sampler)
    told = probabilities_told(sampler, inverse)
    assert np.count_nonzero(counts) == len(sampler)
    assert told.sum() == pytest.approx(1.0, rel=1e-5)
    assert excess(counts, told) < 4.0
    # If every other one were drawn a fifth more often than the others, it would be seen.
    biased = told * np.where(np.arange(NUM_SLOTS) % 2, 1.1, 0.9)
    assert excess(counts, biased / biased.sum()) > 4.0


def test_frequencies_of_ranks_that_have_drifted_far_are_those_that_are_told():
    sampler = RankBasedSampler(NUM_SLOTS, exponent=EXPONENT, max_drift=0.5)
    rng = np.random.default_rng(5)
    priorities = rng.uniform(0.2, 2.0, NUM_SLOTS).astype(np.float32)
    held = rng.permutation(NUM_SLOTS)[:1_100]
    sampler.admit(held, priorities[held], priorities[held])
    sampler.draw(1, rng)
    # Those that were lowest have the highest ranks now, beside those that still have theirs.
    lowest = held[np.argsort(priorities[held])[:50]]
    priorities[lowest] += 10.0
    sampler.update(lowest, priorities[lowest])
    counts, inverse = count_draws(sampler)
    assert sampler.num_changes == 50
    told = probabilities_told(sampler, inverse)
    assert told.sum() == pytest.approx(1.0, rel=1e-5)
    assert excess(counts, told) < 4.0
    items = [Item(priority=float(priorities[slot]), value=0.0) for slot in held]
    true = np.zeros(NUM_SLOTS)
    true[held] = slow_rank(items, EXPONENT)
    assert excess(counts, true) > 4.0, "the ranks have not drifted"


@pytest.mark.parametrize("name", EXACT)
def test_inverse_probabilities_are_those_of_the_paper(name):
    sampler, slots, items = filled(name)
    drawn, inverse = sampler.draw(2_000, np.random.default_rng(2))
    _, wanted = expected(name, items, edges_of(sampler))
    assert set(drawn.tolist()) == set(slots)
    rows = np.searchsorted(slots, drawn)
    np.testing.assert_allclose(inverse, np.array(wanted)[rows], rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in EVERY if "uniform rank within" not in name])
def test_weights_that_correct_fully_make_the_mean_over_draws_the_mean_over_transitions(name):
    sampler, slots, _ = filled(name)
    drawn, inverse = sampler.draw(200_000, np.random.default_rng(3))
    quantity = np.cos(np.arange(CAPACITY))
    estimate = np.mean(inverse * quantity[drawn])
    assert estimate == pytest.approx(quantity[slots].mean(), abs=2e-3)
    assert inverse.dtype == np.float32


@every_sampler
def test_draw_of_nothing_is_refused(name):
    sampler = build_case(name, CAPACITY)
    with pytest.raises(ValueError, match="nothing can be drawn yet"):
        sampler.draw(4, np.random.default_rng(0))
    one = np.array([3])
    sampler.admit(one, np.ones(1, np.float32), np.zeros(1, np.float32))
    assert len(sampler) == 1
    assert sampler.draw(4, np.random.default_rng(0))[0].tolist() == [3] * 4
    sampler.retire(one)
    assert len(sampler) == 0
    with pytest.raises(ValueError, match="nothing can be drawn yet"):
        sampler.draw(4, np.random.default_rng(0))


@every_sampler
def test_all_priorities_zero_are_drawn(name):
    sampler = build_case(name, CAPACITY)
    sampler.admit(np.arange(4), np.zeros(4, np.float32), np.zeros(4, np.float32))
    slots, inverse = sampler.draw(100, np.random.default_rng(0))
    assert set(slots.tolist()) == {0, 1, 2, 3}
    np.testing.assert_allclose(inverse, 1.0, rtol=1e-6)


@every_sampler
def test_check_valid_finds_a_transition_that_should_not_be_in_the_draw(name):
    sampler, slots, items = filled(name)
    slots = np.array(slots)
    priorities = np.array([item.priority for item in items], np.float32)
    values = np.array([item.value for item in items], np.float32)
    with pytest.raises(ValueError, match=r"not among the ready|number of ready|not hold"):
        sampler.check_valid(slots[1:], priorities[1:], values[1:])
    if name != "uniform":
        with pytest.raises(ValueError, match=r"priorities"):
            sampler.check_valid(slots, priorities[::-1], values)


@pytest.mark.parametrize("older_share", [0.0, 0.25, 1.0])
def test_most_draws_are_from_the_newest_and_a_share_is_from_all(older_share):
    sampler = RecentSampler(NUM_SLOTS, num_recent=300, older_share=older_share)
    rng = np.random.default_rng(6)
    order = rng.permutation(NUM_SLOTS)
    nothing = np.zeros(NUM_SLOTS, np.float32)
    for slots in np.split(order[:1_100], [7, 500, 901]):
        sampler.admit(slots, nothing[slots], nothing[slots])
    # The oldest go, one of the newest goes, and another comes again as the newest of all.
    gone = np.concatenate([order[:60], order[[1_050, 1_060]]])
    sampler.retire(gone)
    sampler.admit(order[[1_060]], nothing[:1], nothing[:1])
    held = np.setdiff1d(order[:1_100], np.setdiff1d(gone, order[[1_060]]))
    sampler.check_valid(np.sort(held), nothing[: len(held)], nothing[: len(held)])
    # 301 have come since order[800], of which two places are empty.
    recent = np.setdiff1d(order[801:1_100], order[[1_050]])
    assert len(recent) == 298

    counts, inverse = count_draws(sampler)

    expected = np.zeros(NUM_SLOTS)
    expected[held] = older_share / len(held)
    expected[recent] += (1 - older_share) / len(recent)
    assert excess(counts, expected) < 4.0
    drawn = np.flatnonzero(counts)
    np.testing.assert_allclose(inverse[drawn], 1 / (len(held) * expected[drawn]), rtol=1e-5)


def test_ranks_are_off_by_no_more_than_the_changes_since_they_were_made():
    rng = np.random.default_rng(0)
    size = 400
    sampler = RankBasedSampler(size, exponent=1.0, max_drift=0.25)
    slots = np.arange(size)
    priorities = rng.uniform(0, 1, size).astype(np.float32)
    sampler.admit(slots, priorities, priorities)
    sampler.draw(1, rng)
    assert sampler.num_changes == 0
    worst = 0.0
    for _ in range(200):
        changed = rng.choice(size, 9, replace=False)
        priorities[changed] = rng.uniform(0, 1, 9) ** 4
        sampler.update(changed, priorities[changed])
        sampler.draw(1, rng)
        assert sampler.num_changes <= 0.25 * size
        sampler.check_valid(slots, priorities, priorities)
        used = 1 / sampler._tree.get(slots)
        true = np.empty(size)
        true[np.argsort(-priorities)] = np.arange(1, size + 1)
        assert np.all(np.abs(used - true) <= sampler.num_changes + 0.5)
        worst = max(worst, float(np.abs(used - true).max()))
    assert worst > 5  # It does drift: the bound was put to the test.


def test_draws_by_rank_do_not_depend_on_the_size_of_an_outlier():
    def weights(top):
        sampler = RankBasedSampler(4, exponent=EXPONENT)
        sampler.admit(np.arange(4), np.array([1, 2, 3, top], np.float32), np.zeros(4, np.float32))
        return sampler.draw(1000, np.random.default_rng(0))[0].tolist()

    assert weights(4.0) == weights(1e6)


def test_quantile_edges_make_partitions_of_equal_size():
    sampler = build_hierarchy(CAPACITY, edges="quantile", num_partitions=5, first_edges_after=50)
    values = np.random.default_rng(0).lognormal(0, 2, 50).astype(np.float32)
    sampler.admit(np.arange(50), np.ones(50, np.float32), values)
    assert sampler.sizes.tolist() == [10] * 5


def test_partitions_get_whole_numbers_within_one_of_their_part():
    for draw, shares in (("size", [0.5, 0.3, 0.2]), ("uniform", [1 / 3] * 3)):
        sampler = build_hierarchy(CAPACITY, draw=draw, num_partitions=3, first_edges_after=10)
        values = np.array([0.0] * 5 + [1.5] * 3 + [3.0] * 2, np.float32)
        sampler.admit(np.arange(10), np.ones(10, np.float32), values)
        assert sampler.sizes.tolist() == [5, 3, 2]
        for seed in range(50):
            slots, _ = sampler.draw(16, np.random.default_rng(seed))
            counts = np.array([np.sum(slots < 5), np.sum((slots >= 5) & (slots < 8)), 0])
            counts[2] = 16 - counts.sum()
            # Of each edge between two stretches one part may fall on either side.
            assert np.all(np.abs(np.cumsum(counts) - np.cumsum(shares) * 16) < 1)


def test_settings_of_the_newest_are_refused_where_all_are_drawn():
    with pytest.raises(
        ValueError, match=r"replay\.recent_size is 9, but the sampler uniform has no"
    ):
        ReplayConfig(sampler="uniform", recent_size=9)
    config = ReplayConfig(sampler="recent", recent_size=2, recent_older_share=0.0)
    sampler = build_sampler(config, make_spec())
    slots = np.arange(8)
    sampler.admit(slots, np.ones(8, np.float32), np.ones(8, np.float32))
    assert set(sampler.draw(50, np.random.default_rng(0))[0].tolist()) == {6, 7}


def test_settings_of_partitions_reach_the_sampler():
    config = ReplayConfig(
        sampler="hierarchical",
        num_partitions=3,
        partition_draw="uniform",
        partition_edges="quantile",
        partition_order="proportional",
        partition_correction="full",
        priority_exponent=0.25,
    )
    sampler = build_sampler(config, make_spec(capacity=2_000))
    slots = np.arange(1_200)
    priorities = np.random.default_rng(0).uniform(0.1, 2, 1_200).astype(np.float32)
    values = np.random.default_rng(1).lognormal(0, 1, 1_200).astype(np.float32)
    sampler.admit(slots, priorities, values)
    assert sampler.sizes.tolist() == [400] * 3
    drawn, inverse = sampler.draw(300, np.random.default_rng(0))
    items = [
        Item(priority=float(p), value=float(v)) for p, v in zip(priorities, values, strict=True)
    ]
    slow = SlowHierarchy(
        partition_draw="uniform", order="proportional", correction="full", exponent=0.25
    )
    _, wanted = slow(items, sampler.edges.tolist())
    np.testing.assert_allclose(inverse, np.array(wanted)[drawn], rtol=1e-6)


@pytest.mark.parametrize("kind", get_args(SamplerKind))
def test_a_slot_takes_no_more_memory_than_is_counted_for_it(kind):
    capacity = 2**15 + 1  # Trees are largest just above a power of 2.
    rng = np.random.default_rng(0)
    priorities, values = rng.random((2, capacity), np.float32)
    config = replace(ReplayConfig(), sampler=kind)
    tracemalloc.start()
    sampler = build_sampler(config, replace(make_spec(), capacity=capacity))
    sampler.admit(np.arange(capacity), priorities, values)
    sampler.draw(64, rng)
    allocated, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    counted = capacity * sampler_bytes(config)
    assert 0.4 * counted < allocated < 1.05 * counted
