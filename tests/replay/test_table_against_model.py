"""The table against a slow one in plain Python, after every operation of random sequences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from replay_chunks import Entry, EpisodeWriter, chunk_of, make_spec
from replay_model import SlowTable

from replay.ring import TableSpec
from replay.table import PrioritizedTable

EXPONENT = 0.6


class Pair:
    """A real table and a slow one that get the same operations."""

    def __init__(self, spec: TableSpec, *, seed: int) -> None:
        self.spec = spec
        self.table = PrioritizedTable(
            spec, priority_exponent=EXPONENT, rng=np.random.default_rng(seed)
        )
        self.model = SlowTable(spec, priority_exponent=EXPONENT)
        self.drawn: list[tuple[int, int]] = []
        """(slot, generation) of everything ever drawn."""

    def add(self, entries: list[Entry]) -> None:
        self.table.add(chunk_of(entries))
        self.model.add(entries)
        self.check()

    def sample(self, size: int) -> None:
        if not self.model.ready():
            with pytest.raises(ValueError, match="no transition of pong can be sampled yet"):
                self.table.sample(size)
            return
        slots, inverse = self.table.sample(size)
        generations = self.table.ring.generations[slots].tolist()
        assert set(generations) <= set(self.model.ready())
        expected = [self.model.inverse_probability(g) for g in generations]
        np.testing.assert_allclose(inverse, expected, rtol=1e-6)
        for generation in generations:
            self.model.times_sampled[generation] += 1
        self.drawn += zip(slots.tolist(), generations, strict=True)
        self.check()

    def update(self, priorities: list[float]) -> None:
        """New priorities for what was drawn last, however long ago that was, oldest key last."""
        keys = self.drawn[-len(priorities) :][::-1]
        priorities = priorities[: len(keys)]
        self.table.update_priorities(
            np.array([slot for slot, _ in keys], np.int64),
            np.array([generation for _, generation in keys], np.int64),
            np.array(priorities, np.float32),
        )
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
            assert ring.priorities[slots[row]] == np.float32(model.priorities[generation])
            assert ring.actions[slots[row]] == model.history[generation].action
        if self.spec.num_successors:
            self.check_successors(slots, ready)
        counts = table.counts
        assert counts.inserted == sum(entry.is_transition for entry in model.history)
        assert counts.sampled == sum(model.times_sampled)
        assert counts.overwritten_unsampled == model.overwritten_unsampled
        assert counts.stale_updates == model.stale_updates

    def check_successors(self, slots: np.ndarray, ready: list[int]) -> None:
        successors = self.table.ring.gather_successors(slots)
        for row, generation in enumerate(ready):
            expected = self.model.successors(generation)
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
def test_table_says_what_a_slow_table_says_after_every_operation(
    num_stack, num_successors, operations, capacity
):
    spec = make_spec(capacity=capacity, num_stack=num_stack, num_successors=num_successors)
    run_operations(Pair(spec, seed=0), operations)


@pytest.mark.parametrize("num_successors", [0, 3])
@pytest.mark.parametrize("seed", [1, 2])
def test_table_says_what_a_slow_table_says_after_many_rounds_of_the_ring(num_successors, seed):
    rng = np.random.default_rng(seed)
    pair = Pair(make_spec(capacity=37, num_stack=4, num_successors=num_successors), seed=seed)
    operations = []
    for _ in range(60):
        runs = [
            (env, "".join(rng.choice(list("........let"), rng.integers(0, 7))), rng.random() < 0.9)
            for env in range(3)
        ]
        operations.append(("add", runs))
        operations.append(("sample", int(rng.integers(1, 6))))
        if rng.random() < 0.5:
            operations.append(("update", rng.random(8).astype(np.float32).tolist()))
    run_operations(pair, operations)
    assert pair.table.ring.num_added > 5 * 37
    assert pair.table.counts.stale_updates > 0
    assert pair.table.counts.overwritten_unsampled > 0
