"""Importance weights of every sampler, from the draw to the loss, against loops over the paper."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from batches import SPECS, build_student, random_batch
from sampler_cases import EXACT, build_case, edges_of, expected
from slow_samplers import Item

from learner.batch import BatchLoader
from learner.objectives.config import MimicConfig
from learner.objectives.mimic import ActorMimicObjective
from networks.masking import legal_matrix

NUM_SLOTS = 40
COUNTS = (6, 5)


def draw_of_each_game(name: str):
    """[G] (inverse probabilities as drawn, the same by slow loops): one sampler for each game."""
    rng = np.random.default_rng(0)
    for count in COUNTS:
        size = int(rng.integers(20, NUM_SLOTS))
        slots = rng.permutation(NUM_SLOTS)[:size]
        priorities = rng.uniform(0.1, 2.0, size).astype(np.float32)
        values = rng.lognormal(0.0, 1.0, size).astype(np.float32)
        sampler = build_case(name, NUM_SLOTS)
        sampler.admit(slots, priorities, values)
        drawn, inverse = sampler.draw(count, rng)
        items = [
            Item(priority=float(p), value=float(v)) for p, v in zip(priorities, values, strict=True)
        ]
        _, wanted = expected(name, items, edges_of(sampler))
        yield inverse, [wanted[slots.tolist().index(slot)] for slot in drawn]


@pytest.mark.parametrize("exponent", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("name", EXACT)
def test_loss_is_weighted_as_the_samplers_paper_says(name, exponent):
    drawn, wanted = zip(*draw_of_each_game(name), strict=True)
    batch = replace(random_batch(counts=COUNTS), inverse_probabilities=np.concatenate(drawn))
    student = build_student()
    load = BatchLoader(torch.device("cpu"), gamma=0.9, reward_clip=1.0)

    def loss_of(batch, exponent):
        objective = ActorMimicObjective(
            MimicConfig(importance_exponent=exponent),
            student,
            legal_GA=legal_matrix(SPECS),
            temperatures=(1.0, 1.0),
        )
        return objective(load(batch)).loss.item()

    size = batch.batch_size
    alone = [
        loss_of(replace(batch, loss_weights=size * row.astype(np.float32)), 0.0)
        for row in np.eye(size)
    ]
    powers = [value**exponent for part in wanted for value in part]
    weighted = [
        power / max(powers) * balance * loss
        for power, balance, loss in zip(powers, batch.loss_weights, alone, strict=True)
    ]
    assert loss_of(batch, exponent) == pytest.approx(sum(weighted) / size, rel=1e-5)
    if exponent and name != "uniform":
        assert loss_of(batch, exponent) != pytest.approx(loss_of(batch, 0.0), rel=1e-3)
