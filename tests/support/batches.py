"""Batches of random numbers, for what does not care where a batch comes from.

Two games of the family "counting" with different legal actions and different widths of the
teachers' features; rows are ordered by game.
"""

from __future__ import annotations

from collections.abc import Sequence

import counting
import numpy as np
import torch

from networks.network import MultitaskNetwork
from networks.weights import WeightsVersion
from replay.types import ItemKeys, SampleBatch, Successors

SPECS = (counting.ENDS, counting.CUTS)
GAMES = tuple(spec.name for spec in SPECS)
FEATURE_SIZES = {counting.ENDS.name: 3, counting.CUTS.name: 5}
NUM_ACTIONS = counting.NUM_ACTIONS


def random_batch(
    seed: int = 0,
    *,
    counts: Sequence[int] = (4, 3),
    games: tuple[str, ...] = GAMES,
    num_successors: int = 0,
    versions: Sequence[int] | None = None,
) -> SampleBatch:
    """`counts` transitions of each of `games`; with successors that end and are cut in all ways."""
    rng = np.random.default_rng(seed)
    size = sum(counts)
    game_index = np.repeat(np.arange(len(counts)), counts)
    specs = [SPECS[GAMES.index(game)] for game in games]
    widths = [FEATURE_SIZES[game] for game in games]
    features = np.zeros((size, max(widths)), np.float16)
    teacher_logits = np.zeros((size, NUM_ACTIONS), np.float16)
    actions = np.zeros(size, np.int64)
    for row, index in enumerate(game_index.tolist()):
        features[row, : widths[index]] = rng.normal(size=widths[index])
        legal = list(specs[index].legal_actions)
        values = rng.normal(size=len(legal))
        teacher_logits[row, legal] = values - values.max()
        actions[row] = rng.choice(legal)
    if versions is None:
        versions = [0] * size
    return SampleBatch(
        games=games,
        keys=ItemKeys(
            shard=0,
            game_index=game_index,
            generations=rng.integers(1_000, size=size),
        ),
        observations=_observations(rng, size),
        columns={
            "actions": actions,
            "student_logits": rng.normal(size=(size, NUM_ACTIONS)).astype(np.float16),
            "teacher_logits": teacher_logits,
            "teacher_features": features,
            "teacher_values": rng.normal(size=size).astype(np.float32),
            "weights_versions": np.array(versions, np.int64),
        },
        inverse_probabilities=rng.uniform(0.2, 5.0, size=size).astype(np.float32),
        loss_weights=rng.uniform(0.5, 1.5, size=size).astype(np.float32),
        ages=rng.integers(100, size=size),
        successors=_successors(rng, size, num_successors) if num_successors else None,
    )


def _observations(rng: np.random.Generator, size: int) -> np.ndarray:
    return rng.integers(256, size=(size, *SPECS[0].observation_shape), dtype=np.uint8)


def _successors(rng: np.random.Generator, size: int, num_successors: int) -> Successors:
    lengths = rng.integers(1, num_successors + 1, size=size)
    inside = np.arange(num_successors) < lengths[:, None]
    rewards = np.where(inside, rng.normal(size=inside.shape) * 2, 0.0)
    # A third of the returns end with their last step; what lies behind it is unspecified.
    discounts = np.where(inside, 1.0, 7.0)
    ended = rng.random(size) < 1 / 3
    discounts[ended, lengths[ended] - 1] = 0.0
    bootstrap = _observations(rng, size)
    bootstrap[ended] = 0
    return Successors(
        rewards=rewards.astype(np.float32),
        discounts=discounts.astype(np.float32),
        lengths=lengths,
        bootstrap_observations=bootstrap,
    )


def encoded(incarnation: int, updates: int) -> int:
    return WeightsVersion(incarnation, updates).encode()


def build_student(seed: int = 0, *, features: bool = False) -> MultitaskNetwork:
    torch.manual_seed(seed)
    return MultitaskNetwork(
        torso="minatar",
        observation_shape=SPECS[0].observation_shape,
        num_actions=NUM_ACTIONS,
        games=GAMES,
        teacher_feature_sizes=FEATURE_SIZES if features else {},
    )


def build_value_network(
    seed: int = 0, *, num_quantiles: int = 0, dueling: bool = False
) -> MultitaskNetwork:
    """A small Q-network for the same observations."""
    torch.manual_seed(seed)
    return MultitaskNetwork(
        torso="minatar",
        observation_shape=SPECS[0].observation_shape,
        num_actions=NUM_ACTIONS,
        dueling=dueling,
        num_quantiles=num_quantiles,
    )
