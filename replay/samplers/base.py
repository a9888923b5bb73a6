"""What a replay table asks of whatever chooses its transitions.

Shape letters:
    B  transitions of one call
    N  transitions that can be drawn now
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from replay.samplers.sum_tree import SumTree
from replay.types import Float32Array, Float64Array, Int64Array


class Sampler(Protocol):
    """Chooses among the slots that were admitted and not yet retired.

    It trusts its table: slots lie below the capacity, priorities are finite and not negative,
    values are finite, and nothing is admitted twice or retired or updated without being there.
    """

    def __len__(self) -> int:
        """N."""
        ...

    def admit(self, slots: Int64Array, priorities: Float32Array, values: Float32Array) -> None:
        """Put slots [B], each given once, into the draw; values are the teacher's of each state."""
        ...

    def retire(self, slots: Int64Array) -> None:
        """Take slots [B], each given once, out of the draw."""
        ...

    def update(self, slots: Int64Array, priorities: Float32Array) -> None:
        """Change priorities [B] of slots in the draw; of a slot given twice the last one counts."""
        ...

    def draw(self, size: int, rng: np.random.Generator) -> tuple[Int64Array, Float32Array]:
        """Draw with replacement, one from each of `size` equal parts of the total probability.

        A slot with probability P comes size * P times on average. Returns (slots [B], 1 / (N * P)
        [B]); ValueError if nothing is in the draw.
        """
        ...

    def check_valid(
        self, slots: Int64Array, priorities: Float32Array, values: Float32Array
    ) -> None:
        """Raises ValueError unless exactly `slots` [N], ascending, are in the draw, as they are."""
        ...


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
    """What `Sampler.draw` returns, of the `num_slots` slots whose weights are in a tree."""
    if num_slots == 0:
        raise ValueError("nothing can be drawn yet")
    total = tree.total
    slots = tree.query(equal_parts(size, rng) * total)
    inverse = total / (num_slots * tree.get(slots))
    return slots, inverse.astype(np.float32)


def check_exponent(exponent: float) -> None:
    """Raises ValueError unless the exponent of the priorities lies in [0, 1]."""
    if not 0.0 <= exponent <= 1.0:
        raise ValueError(f"priority_exponent must lie between 0 and 1, got {exponent}")
