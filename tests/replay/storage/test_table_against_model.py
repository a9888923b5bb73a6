"""The table against a slow one in plain Python, after every operation of random sequences."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from replay_chunks import Entry, EpisodeWriter, chunk_of, make_spec, successors_of
from replay_model import SlowTable
from sampler_cases import EVERY, EXACT, build_case, edges_of

from replay.storage.ring import TableSpec
from replay.storage.table import QUANTILES, ReplayTable, TableCounts, follow


@dataclass
class Snapshot:
    """What a table was, and its model."""

    columns: dict[str, np.ndarray]
    generations: np.ndarray
    priorities: np.ndarray
    times_sampled: np.ndarray
    counts: TableCounts
    model: SlowTable


class Pair:
    """A real table and a slow one that get the same operations."""

    def __init__(self, spec: TableSpec, *, seed: int, sampler: str = "proportional") -> None:
        self.spec = spec
        self.sampler = sampler
        self.rng = np.random.default_rng(seed)
        self.table = self.new_table(spec)
        self.model = SlowTable(spec, sampler=sampler)
        self.drawn: list[tuple[int, int]] = []
        """(slot, generation) of everything ever drawn."""
        self.saved: Snapshot | None = None

    def new_table(self, spec: TableSpec) -> ReplayTable:
        return ReplayTable(spec, sampler=build_case(self.sampler, spec.capacity), rng=self.rng)

    def add(self, entries: list[Entry]) -> None:
        self.table.add(chunk_of(entries))
        self.model.add(entries)
        self.check()

    def sample(self, size: int) -> None:
        if not self.model.ready():
            with pytest.raises(ValueError, match="no transition of pong can be sampled yet"):
                self.table.sample(size)
            return
        drawn = self.table.sample(size)
        slots, generations = drawn.slots, drawn.generations.tolist()
        assert generations == self.table.ring.generations[slots].tolist()
        self.check_drawn(generations, drawn.inverse_probabilities)
        for generation in generations:
            self.model.times_sampled[generation] += 1
        self.drawn += zip(slots.tolist(), generations, strict=True)
        self.check()

    def check_drawn(self, generations: list[int], inverse: np.ndarray) -> None:
        assert set(generations) <= set(self.model.ready())
        if self.sampler in EXACT:
            expected = self.model.inverse_probabilities(edges_of(self.table._sampler))
            np.testing.assert_allclose(inverse, [expected[g] for g in generations], rtol=1e-6)

    def follow(self, length: int) -> None:
        """Sequences from all that can be drawn: the model's steps, and what follows them."""
        ready = self.model.ready()
        ring, model = self.table.ring, self.model
        found = follow(ring.links, ring.slots_of(np.array(ready, np.int64)), length=length)
        for row, generation in enumerate(ready):
            steps, after = model.sequence(generation, length)
            slots = found.slots[row]
            assert ring.generations[slots[: len(steps)]].tolist() == steps
            assert found.num_steps[row] == len(steps)
            assert (slots[len(steps) :] == slots[len(steps) - 1]).all()
            slot = int(found.bootstrap_slots[row])
            assert (None if slot < 0 else int(ring.generations[slot])) == after

    def resize(self, capacity: int) -> None:
        """Another capacity, as a changed quota makes it; keys given out before stay good."""
        self.table = self.table.resized(capacity, build_case(self.sampler, capacity))
        self.model.resize(capacity)
        self.spec = self.table.spec
        self.check()

    def snapshot(self) -> None:
        """Keep all that a snapshot keeps, and the model as it is now."""
        table, ring = self.table, self.table.ring
        slots = ring.held_slots()
        self.saved = Snapshot(
            columns=ring.columns(slots),
            generations=ring.generations[slots],
            priorities=ring["priorities"][slots],
            times_sampled=table.times_sampled(slots),
            counts=replace(table.counts),
            model=copy.deepcopy(self.model),
        )

    def restore(self) -> None:
        """A new table from the snapshot, whatever came since; from one of this moment, if none."""
        if self.saved is None:
            self.snapshot()
        # It can be begun from again.
        saved = copy.deepcopy(self.saved)
        num_added = self.table.ring.num_added
        table = self.new_table(self.spec)
        table.counts = saved.counts
        table.restore(
            [saved.columns],
            num_added=num_added,
            generations=saved.generations,
            priorities=saved.priorities,
            times_sampled=saved.times_sampled,
        )
        self.table, self.model = table, saved.model
        self.model.go_on(num_added=num_added, capacity=self.spec.capacity)
        self.check()

    def update(self, priorities: list[float]) -> None:
        """New priorities for what was drawn last, however long ago that was, oldest key last."""
        keys = self.drawn[-len(priorities) :][::-1]
        priorities = priorities[: len(keys)]
        generations = np.array([generation for _, generation in keys], np.int64)
        self.table.update_priorities(generations, np.array(priorities, np.float32))
        for (_, generation), priority in zip(keys, priorities, strict=True):
            self.model.update_priority(generation, priority)
        self.check()

    def check(self) -> None:
        """Everything that can be asked of the table is what the model says."""
        table, model = self.table, self.model
        table.check_valid()
        ring = table.ring
        slot_of = {int(g): slot for slot, g in enumerate(ring.generations) if g >= 0}
        assert sorted(slot_of) == list(model.held())
        assert ring.num_entries == len(model.held())
        ready = model.ready()
        assert table.num_ready == len(ready)
        held = np.array(list(slot_of.values()), np.int64)
        assert sorted(ring.generations[held[ring.ready(held)]].tolist()) == ready
        slots = np.array([slot_of[g] for g in ready], np.int64)
        observations = np.empty((len(ready), *self.spec.observation_shape), np.uint8)
        ring.gather_observations(slots, observations)
        for row, generation in enumerate(ready):
            np.testing.assert_array_equal(observations[row], model.observation(generation))
            assert ring["priorities"][slots[row]] == np.float32(model.priorities[generation])
            assert ring["actions"][slots[row]] == model.history[generation].action
        if self.spec.num_successors:
            self.check_successors(slots, ready)
        counts = table.counts
        assert counts.inserted == sum(entry.is_transition for entry in model.history.values())
        assert table.num_ready == len(ready)
        if ready:
            priorities = [np.float32(model.priorities[g]) for g in ready]
            np.testing.assert_allclose(
                table.priority_quantiles(), np.quantile(np.array(priorities, float), QUANTILES)
            )
        assert counts.sampled == sum(model.times_sampled.values())
        assert counts.overwritten_unsampled == model.overwritten_unsampled
        assert counts.stale_priorities == model.stale_priorities

    def check_successors(self, slots: np.ndarray, ready: list[int]) -> None:
        successors = successors_of(self.table.ring, slots)
        for row, generation in enumerate(ready):
            expected = self.model.successors(generation, self.spec.num_successors)
            length = len(expected.rewards)
            assert successors.lengths[row] == length
            assert successors.rewards[row, :length].tolist() == expected.rewards
            assert not successors.rewards[row, length:].any()
            assert successors.discounts[row, :length].tolist() == expected.discounts
            bootstrap = successors.bootstrap_observations[row]
            if expected.bootstrap is None:
                assert not bootstrap.any()
            else:
                np.testing.assert_array_equal(bootstrap, expected.bootstrap)


RUNS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.lists(st.sampled_from(".....let"), max_size=5).map("".join),
        st.sampled_from([1, 1, 1, 0]),
    ),
    min_size=1,
    max_size=3,
)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), RUNS),
        st.tuples(st.just("add"), RUNS),
        st.tuples(st.just("sample"), st.integers(1, 6)),
        st.tuples(st.just("follow"), st.integers(1, 5)),
        st.tuples(st.just("resize"), st.integers(12, 24)),
        st.tuples(st.just("snapshot"), st.none()),
        st.tuples(st.just("restore"), st.none()),
        st.tuples(st.just("update"), st.lists(st.floats(0, 4, width=32), min_size=1, max_size=6)),
    ),
    min_size=6,
    max_size=25,
)


def run_operations(pair: Pair, operations: list) -> None:
    writer = EpisodeWriter()
    for name, argument in operations:
        if name == "add":
            entries = []
            for env, events, arrives in argument:
                # A run that does not arrive leaves a gap in its stream.
                played = writer.play(env, events, priority=1.0 + len(entries))
                entries += played if arrives else []
            for start in range(0, len(entries), pair.spec.capacity // 2):
                pair.add(entries[start : start + pair.spec.capacity // 2])
        elif name == "sample":
            pair.sample(argument)
        elif name == "follow":
            pair.follow(argument)
        elif name == "resize":
            pair.resize(argument)
        elif name == "snapshot":
            pair.snapshot()
        elif name == "restore":
            pair.restore()
        else:
            pair.update(argument)


@pytest.mark.parametrize("num_successors", [0, 1, 3])
@pytest.mark.parametrize("num_stack", [1, 3])
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(operations=OPERATIONS, capacity=st.integers(12, 20))
# A life lost and a truncation inside a chunk, one stream silent for a whole round of the ring.
@example(
    operations=[
        ("add", [(0, "..l.", 1), (1, "..t.", 1)]),
        ("sample", 6),
        ("add", [(0, "..e.", 1), (0, "..", 0), (0, "....", 1)]),
        ("add", [(0, "....", 1), (2, "....", 1)]),
        ("update", [2.0, 0.0, 3.0, 1.0]),
        ("add", [(1, "....", 1)]),
    ],
    capacity=12,
)
# Back to where steps, draws and priorities are not yet what they were, and on from there.
@example(
    operations=[
        ("add", [(0, "..l.", 1), (1, "..t.", 1)]),
        ("sample", 4),
        ("snapshot", None),
        ("add", [(0, "....", 1), (1, "....", 1)]),
        ("sample", 6),
        ("update", [2.0, 0.0, 3.0, 1.0]),
        ("restore", None),
        ("update", [1.0, 4.0, 2.0, 3.0]),
        ("add", [(0, "..e.", 1), (1, "....", 1)]),
        ("sample", 6),
        ("resize", 16),
        ("restore", None),
        ("add", [(0, "....", 1), (2, "....", 1)]),
        ("sample", 6),
        ("update", [2.0, 0.0, 3.0, 1.0]),
    ],
    capacity=14,
)
def test_table_says_what_a_slow_table_says_after_every_operation(
    num_stack, num_successors, operations, capacity
):
    spec = make_spec(capacity=capacity, num_stack=num_stack, num_successors=num_successors)
    run_operations(Pair(spec, seed=0), operations)


@pytest.mark.parametrize("sampler", [name for name in EVERY if name != "proportional"])
@settings(max_examples=12, deadline=None, derandomize=True, database=None)
@given(operations=OPERATIONS, capacity=st.integers(12, 20))
def test_table_with_another_sampler_says_what_a_slow_table_says(sampler, operations, capacity):
    spec = make_spec(capacity=capacity, num_stack=2, num_successors=1)
    run_operations(Pair(spec, seed=0, sampler=sampler), operations)


def many_rounds(pair: Pair, *, seed: int) -> None:
    rng = np.random.default_rng(seed)
    operations = []
    for turn in range(60):
        runs = [
            (env, "".join(rng.choice(list("........let"), rng.integers(0, 7))), rng.random() < 0.9)
            for env in range(3)
        ]
        operations.append(("add", runs))
        operations.append(("sample", int(rng.integers(1, 6))))
        if rng.random() < 0.5:
            operations.append(("update", rng.random(8).astype(np.float32).tolist()))
        if turn % 7 == 0:
            operations.append(("follow", int(rng.integers(1, 6))))
        if turn % 20 == 13:
            operations.append(("snapshot", None))
        if turn % 20 == 16:
            operations.append(("restore", None))
        if turn % 20 == 19:
            operations.append(("resize", int(rng.integers(30, 45))))
            operations.append(("restore", None))
    run_operations(pair, operations)
    assert pair.table.ring.num_added > 5 * 37
    assert pair.table.counts.stale_priorities > 0
    assert pair.table.counts.overwritten_unsampled > 0


@pytest.mark.parametrize("num_successors", [0, 3])
@pytest.mark.parametrize("seed", [1, 2])
def test_table_says_what_a_slow_table_says_after_many_rounds_of_the_ring(num_successors, seed):
    spec = make_spec(capacity=37, num_stack=4, num_successors=num_successors)
    many_rounds(Pair(spec, seed=seed), seed=seed)


@pytest.mark.parametrize("sampler", EVERY)
def test_every_sampler_says_what_a_slow_table_says_after_many_rounds_of_the_ring(sampler):
    spec = make_spec(capacity=37, num_stack=2, num_successors=1)
    many_rounds(Pair(spec, seed=3, sampler=sampler), seed=3)
