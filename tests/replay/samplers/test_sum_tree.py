"""The vectorised sum tree against a scalar one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.samplers.sum_tree import SumTree


class ScalarTree:
    """A list of values; sums are made anew every time."""

    def __init__(self, capacity: int) -> None:
        self.values = [0.0] * capacity

    def set(self, indices: list[int], values: list[float]) -> None:
        for index, value in zip(indices, values, strict=True):
            self.values[index] = value

    @property
    def total(self) -> float:
        return sum(self.values)

    def query(self, target: float) -> int:
        for index, value in enumerate(self.values):
            if target < value:
                return index
            target -= value
        raise AssertionError("the target is beyond the total")


# Multiples of 1/8, so that both trees' sums are exact whatever their order.
VALUES = st.integers(0, 40).map(lambda eighths: eighths / 8)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_vectorised_tree_is_the_scalar_tree_also_with_indices_given_twice(data):
    capacity = data.draw(st.integers(1, 20))
    tree, slow = SumTree(capacity), ScalarTree(capacity)
    for _ in range(4):
        indices = data.draw(st.lists(st.integers(0, capacity - 1), max_size=12))
        values = data.draw(st.lists(VALUES, min_size=len(indices), max_size=len(indices)))
        tree.set(np.array(indices, np.int64), np.array(values, np.float64))
        slow.set(indices, values)
        tree.check_valid()
        assert tree.total == slow.total
        assert tree.get(np.arange(capacity)).tolist() == slow.values
        if slow.total:
            targets = np.arange(0, slow.total, 1 / 16)
            assert tree.query(targets).tolist() == [slow.query(t) for t in targets]


@pytest.mark.parametrize("capacity", [1_024, 1_025, 9_000, 70_001])
def test_tree_of_every_height_is_a_running_sum(capacity):
    rng = np.random.default_rng(capacity)
    tree = SumTree(capacity)
    values = rng.integers(0, 5, capacity).astype(np.float64)  # Sums are exact.
    tree.set(np.arange(capacity), values)
    few = rng.integers(0, capacity, 30)
    values[few] = 7.0
    tree.set(few, 7.0)
    tree.check_valid()
    assert tree.total == values.sum()
    targets = rng.random(2_000) * tree.total
    expected = np.searchsorted(np.cumsum(values), targets, side="right")
    assert tree.query(targets).tolist() == expected.tolist()


def test_query_never_ends_at_a_leaf_with_the_value_zero():
    rng = np.random.default_rng(0)
    for _ in range(50):
        capacity = int(rng.integers(2, 70))
        tree = SumTree(capacity)
        # Sizes so different that sums are rounded, and leaves of zero between them and at the end.
        values = 10.0 ** rng.uniform(-12, 12, capacity) * (rng.random(capacity) < 0.5)
        values[0], values[-1] = 1.0, 0.0
        tree.set(np.arange(capacity), values)
        total = tree.total
        edges = np.cumsum(values)
        targets = np.concatenate(
            [rng.random(200) * total, edges, np.nextafter(edges, 0), [0.0, total]]
        )
        assert np.all(tree.get(tree.query(targets)) > 0)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_value_that_would_spoil_the_sums_is_refused_before_anything_is_set(value):
    tree = SumTree(4)
    with pytest.raises(ValueError, match="finite and not negative"):
        tree.set(np.array([0, 1]), np.array([1.0, value]))
    assert tree.total == 0.0


@pytest.mark.parametrize(
    ("node", "value", "message"),
    [(1, 5.0, "sum of its children"), (-1, 1.0, "sum of its children")],
)
def test_check_valid_finds_a_wrong_node(node, value, message):
    tree = SumTree(5)
    tree.set(np.arange(5), np.arange(5.0))
    tree._nodes[node] = value
    with pytest.raises(ValueError, match=message):
        tree.check_valid()
