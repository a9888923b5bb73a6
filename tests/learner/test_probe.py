"""What is seen of a network while it learns, against values worked out by hand."""

import numpy as np
import pytest
import torch
from batches import GAMES, SPECS, build_student, random_batch

from learner.batch import BatchLoader
from learner.diagnostics import dead_share, effective_rank, weight_norm
from learner.interference import adam_scale, cosines, halves_of_games
from learner.objectives.config import MimicConfig
from learner.objectives.mimic import ActorMimicObjective
from learner.probe import Probe
from networks.masking import legal_matrix

LOAD = BatchLoader(torch.device("cpu"), gamma=0.99, reward_clip=1.0)


def build(period=1):
    student = build_student()
    objective = ActorMimicObjective(
        MimicConfig(), student, legal_GA=legal_matrix(SPECS), temperatures=(0.5, 0.5)
    )
    optimizer = torch.optim.Adam(student.parameters())
    probe = Probe(student, objective=objective, optimizer=optimizer, period=period)
    return student, objective, optimizer, probe


def test_rank_counts_the_directions_that_features_have():
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0]
    for values, rank in (([1, 1, 1], 3), ([100, 1], 1), ([98, 2], 2), ([0], 0)):
        features = (basis[:, : len(values)] * values) @ basis[: len(values)]
        assert effective_rank(torch.from_numpy(features)) == rank


def test_a_unit_is_dead_if_no_row_opens_it():
    assert dead_share(torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0]])) == 0.5


def test_the_norm_is_of_all_weights_together():
    layer = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(layer.weight, 3.0)
    torch.nn.init.constant_(layer.bias, -4.0)
    assert weight_norm(layer) == pytest.approx(5.0)


def test_cosines_are_those_of_the_pairs():
    # Two halves of three games; the second game is against the first, the third beside both.
    gradients = torch.tensor(
        [
            [2.0, 0.0, 0.0],
            [1.0, 1.0, 0.0],
            [-1.0, 0.0, 0.0],
            [-3.0, 0.0, 0.0],
            [0, 0, 1.0],
            [0, 0, 5.0],
        ]
    )
    root = 2**-0.5
    first_second = -(1 + 1 + root + root) / 4
    found = cosines(["a", "b", "c"], gradients, "_x")
    expected = {
        "gradient_cosine_x": first_second / 3,
        "gradient_cosine_floor_x": (root + 1 + 1) / 3,
        "game/a/gradient_cosine_x": first_second / 2,
        "game/b/gradient_cosine_x": first_second / 2,
        "game/c/gradient_cosine_x": 0.0,
    }
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_look_gives_the_cosines_of_the_objectives_gradients_and_leaves_no_trace():
    student, objective, optimizer, probe = build()
    batch = LOAD(random_batch(counts=(9, 6)))
    objective(batch).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    probe.after_update(batch, num_updates=1, updating_s=0.0)
    found = probe.drain()
    assert probe.drain() == {}
    for name, value in student.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in student.parameters())

    vectors, scaled = [], []
    for rows in (range(0, 9, 2), range(1, 9, 2), range(9, 15, 2), range(10, 15, 2)):
        weights = torch.zeros(15)
        weights[list(rows)] = 15 / len(rows)
        masked = LOAD(random_batch(counts=(9, 6)))
        masked.loss_weights_B.mul_(weights)
        student.zero_grad()
        # Importance weights are relative to the largest of the part, which cancels in a cosine.
        objective(masked).loss.backward()
        vectors.append(torch.cat([p.grad.flatten() for p in student.torso.parameters()]))
        roots = [optimizer.state[p]["exp_avg_sq"].sqrt() + 1e-8 for p in student.torso.parameters()]
        scaled.append(vectors[-1] / torch.cat([root.flatten() for root in roots]))
    for name, gradients in (("", vectors), ("_adam", scaled)):
        cosine = torch.nn.functional.cosine_similarity
        across = [cosine(gradients[i], gradients[j], dim=0) for i in (0, 1) for j in (2, 3)]
        within = [
            cosine(gradients[0], gradients[1], dim=0),
            cosine(gradients[2], gradients[3], dim=0),
        ]
        assert found[f"gradient_cosine{name}"] == pytest.approx(np.mean(across), abs=1e-4)
        assert found[f"gradient_cosine_floor{name}"] == pytest.approx(np.mean(within), abs=1e-4)
        assert found[f"game/{GAMES[0]}/gradient_cosine{name}"] == pytest.approx(
            np.mean(across), abs=1e-4
        )


def test_games_with_few_rows_are_not_compared():
    _, _, _, probe = build()
    batch = LOAD(random_batch(counts=(9, 3)))
    assert list(halves_of_games(batch)) == [GAMES[0]]
    probe.after_update(batch, num_updates=1, updating_s=0.0)
    assert not [name for name in probe.drain() if "cosine" in name]


def test_looks_keep_their_period_and_take_little_of_the_time():
    _, _, _, probe = build(period=10)
    batch = LOAD(random_batch(counts=(4, 4)))
    looks = []
    for update in range(1, 200):
        # As if updates took no time: after the first look the next one would cost too much.
        probe.after_update(batch, num_updates=update, updating_s=0.0)
        if probe.drain():
            looks.append(update)
    assert looks == [10]
    probe.after_update(batch, num_updates=200, updating_s=1e9)
    assert probe.drain()
    probe.after_update(batch, num_updates=209, updating_s=1e10)
    assert not probe.drain()


def test_other_optimizers_have_no_scale():
    student = build_student()
    learning = list(student.torso.parameters())
    assert adam_scale(torch.optim.SGD(learning, lr=0.1), learning) is None
