"""What samplers have in common: how they draw."""

from __future__ import annotations

import numpy as np

from replay.samplers.sum_tree import SumTree
from replay.types import Float32Array, Float64Array, Int64Array


def equal_parts(size: int, rng: np.random.Generator) -> Float64Array:
    """One random number from each of `size` equal parts of [0, 1), ascending.

    Schaul et al. 2016 (https://arxiv.org/abs/1511.05952), section 3.3: a batch then holds no more
    and no fewer of any range of probabilities than is its due.
    """
    parts = rng.random(size)
    parts += np.arange(size, dtype=np.float64)
    parts /= size
    return parts


def draw_from_tree(
    tree: SumTree, size: int, rng: np.random.Generator, *, num_slots: int
) -> tuple[Int64Array, Float32Array]:
    """What a sampler's `draw` returns, of the `num_slots` slots whose weights are in a tree."""
    if num_slots == 0:
        raise ValueError("nothing can be drawn yet")
    total = tree.total
    slots = tree.query(equal_parts(size, rng) * total)
    inverse = total / (num_slots * tree.get(slots))
    return slots, inverse.astype(np.float32)
