"""Samplers as the papers write them: loops over all transitions, nothing kept between draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Item:
    priority: float
    value: float


def slow_uniform(items: Sequence[Item]) -> list[float]:
    return [1 / len(items) for _ in items]


def slow_proportional(items: Sequence[Item], exponent: float) -> list[float]:
    """P of each (Schaul et al. 2016, equation 1, with p_i not below 1e-6)."""
    weights = [max(float(np.float32(item.priority)), 1e-6) ** exponent for item in items]
    return [weight / sum(weights) for weight in weights]


def slow_rank(items: Sequence[Item], exponent: float) -> list[float]:
    """P of each (Schaul et al. 2016, section 3.3: p_i = 1 / rank(i)); equals share their ranks."""
    weights = []
    for item in items:
        higher = sum(other.priority > item.priority for other in items)
        equal = sum(other.priority == item.priority for other in items)
        ranks = [higher + k for k in range(1, equal + 1)]
        weights.append((sum(ranks) / equal) ** -exponent)
    return [weight / sum(weights) for weight in weights]


@dataclass(frozen=True, kw_only=True)
class SlowHierarchy:
    """Yin and Pan 2017: a partition first, a transition in it second."""

    partition_draw: str
    order: str
    correction: str
    exponent: float

    def within(self, items: Sequence[Item]) -> list[float]:
        """P_j of each of a partition's transitions."""
        rule = slow_rank if self.order == "rank" else slow_proportional
        return rule(items, self.exponent)

    def __call__(
        self, items: Sequence[Item], edges: Sequence[float]
    ) -> tuple[list[float], list[float]]:
        """(P, inverse probability as the importance weights use it) of each."""
        where = [sum(item.value >= edge for edge in edges) for item in items]
        partitions = sorted(set(where))
        probabilities, inverse = [0.0] * len(items), [0.0] * len(items)
        for j in partitions:
            members = [i for i in range(len(items)) if where[i] == j]
            if self.partition_draw == "size":
                partition_probability = len(members) / len(items)
            else:
                partition_probability = 1 / len(partitions)
            within = self.within([items[i] for i in members])
            for i, p in zip(members, within, strict=True):
                probabilities[i] = partition_probability * p
                if self.correction == "within":
                    inverse[i] = 1 / (len(members) * p)
                else:
                    inverse[i] = 1 / (len(items) * probabilities[i])
        return probabilities, inverse
