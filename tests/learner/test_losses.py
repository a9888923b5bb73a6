"""The losses against slow loops written from the papers, and against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.losses import (
    double_q_loss,
    feature_mimic_loss,
    importance_weights,
    policy_mimic_loss,
    quantile_double_q_loss,
)


def random_legal(rng: np.random.Generator, batch: int, num_actions: int) -> np.ndarray:
    legal = rng.random((batch, num_actions)) < 0.5
    legal[np.arange(batch), rng.integers(num_actions, size=batch)] = True
    return legal


def slow_policy_mimic_loss(student, teacher, legal, temperature):
    losses = []
    for b in range(len(student)):
        actions = [a for a in range(student.shape[1]) if legal[b, a]]
        expert = [math.exp(teacher[b, a] / temperature[b]) for a in actions]
        pupil = [math.exp(student[b, a]) for a in actions]
        losses.append(
            -sum(
                e / sum(expert) * math.log(p / sum(pupil))
                for e, p in zip(expert, pupil, strict=True)
            )
        )
    return np.array(losses)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), batch=st.integers(1, 6), num_actions=st.integers(1, 18))
def test_policy_mimic_loss_equals_a_loop_from_the_paper(seed, batch, num_actions):
    rng = np.random.default_rng(seed)
    student = rng.normal(size=(batch, num_actions))
    teacher = -rng.exponential(size=(batch, num_actions))
    legal = random_legal(rng, batch, num_actions)
    temperature = rng.uniform(0.05, 2.0, size=batch)
    loss = policy_mimic_loss(
        torch.tensor(student, dtype=torch.float32),
        torch.tensor(teacher, dtype=torch.float32),
        torch.tensor(legal),
        temperature=torch.tensor(temperature, dtype=torch.float32),
    )
    expected = slow_policy_mimic_loss(student, teacher, legal, temperature)
    np.testing.assert_allclose(loss.numpy(), expected, rtol=2e-5, atol=1e-6)


def test_policy_gradient_is_student_minus_expert_and_exactly_zero_for_illegal_actions():
    rng = np.random.default_rng(3)
    legal = torch.tensor(random_legal(rng, 32, 18))
    student = torch.tensor(rng.normal(size=(32, 18)), requires_grad=True)
    teacher = torch.tensor(rng.normal(size=(32, 18)))
    policy_mimic_loss(student, teacher, legal, temperature=0.3).sum().backward()
    assert student.grad is not None
    assert torch.count_nonzero(student.grad[~legal]) == 0
    expert_policy = (teacher / 0.3).masked_fill(~legal, -torch.inf).softmax(1)
    student_policy = student.detach().masked_fill(~legal, -torch.inf).softmax(1)
    torch.testing.assert_close(
        student.grad, student_policy - expert_policy, rtol=1e-4, atol=1e-6, check_dtype=False
    )


def test_garbage_in_illegal_teacher_entries_changes_nothing():
    student = torch.tensor([[0.5, 0.0, 2.0]], requires_grad=True)
    legal = torch.tensor([[True, True, False]])
    clean = policy_mimic_loss(student, torch.tensor([[0.0, -1.0, 0.0]]), legal)
    dirty = policy_mimic_loss(student, torch.tensor([[0.0, -1.0, math.nan]]), legal)
    dirty.sum().backward()
    assert clean.item() == dirty.item()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_feature_mimic_loss_is_the_whole_squared_norm_of_the_paper():
    regressed = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]], requires_grad=True)
    features = torch.tensor([[1.0, 0.0, 0.0], [0.0, 3.0, 4.0]])
    loss = feature_mimic_loss(regressed, features)
    assert loss.tolist() == [13.0, 25.0]
    loss.sum().backward()
    torch.testing.assert_close(regressed.grad, 2.0 * (regressed.detach() - features))


def test_double_q_loss_of_three_transitions_worked_out_by_hand():
    # 0: the online net likes action 2 best, but it is illegal: the target net's value of 1 counts.
    #    target = 1 + 0.5 * 4 = 3; q = 2.5; delta = 0.5; loss = 0.125.
    # 1: terminal: target = -1; q = 2; delta = -3; loss = 3 - 0.5.
    # 2: the online net picks 0 although the target net prefers 2: target = 0 + 0.9 * 10 = 9.
    q = torch.tensor([[2.5, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 9.0]], requires_grad=True)
    loss, td_error = double_q_loss(
        q,
        actions_B=torch.tensor([0, 1, 2]),
        returns_B=torch.tensor([1.0, -1.0, 0.0]),
        bootstrap_discounts_B=torch.tensor([0.5, 0.0, 0.9]),
        q_next_online_BA=torch.tensor([[0.0, 1.0, 7.0], [5.0, 5.0, 5.0], [3.0, 2.0, 1.0]]),
        q_next_target_BA=torch.tensor([[1.0, 4.0, 9.0], [6.0, 6.0, 6.0], [10.0, 0.0, 20.0]]),
        legal_BA=torch.tensor([[True, True, False], [True, True, True], [True, True, True]]),
    )
    assert td_error.tolist() == pytest.approx([0.5, -3.0, 0.0])
    assert loss.tolist() == pytest.approx([0.125, 2.5, 0.0])
    loss.sum().backward()
    # The clipped TD error, with its sign turned, on the taken action and nowhere else.
    assert q.grad is not None
    assert q.grad.tolist() == [[-0.5, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    assert not td_error.requires_grad


def slow_double_q_loss(q, actions, returns, discounts, online, target, legal, delta):
    losses, errors = [], []
    for b in range(len(q)):
        best = max((a for a in range(q.shape[1]) if legal[b, a]), key=lambda a: online[b, a])
        error = returns[b] + discounts[b] * target[b, best] - q[b, actions[b]]
        small = abs(error) <= delta
        losses.append(0.5 * error**2 if small else delta * (abs(error) - 0.5 * delta))
        errors.append(error)
    return np.array(losses), np.array(errors)


@pytest.mark.parametrize("delta", [0.3, 1.0, math.inf])
def test_double_q_loss_equals_a_loop_from_the_paper(delta):
    rng = np.random.default_rng(5)
    q, online, target = rng.normal(size=(3, 64, 18)).astype(np.float32)
    legal = random_legal(rng, 64, 18)
    actions = np.array([rng.choice(np.flatnonzero(row)) for row in legal])
    returns = rng.normal(size=64).astype(np.float32)
    discounts = rng.choice([0.0, 0.99**3], size=64).astype(np.float32)
    arrays = (q, actions, returns, discounts, online, target, legal)
    loss, td_error = double_q_loss(*(torch.tensor(x) for x in arrays), huber_delta=delta)
    expected_loss, expected_error = slow_double_q_loss(*arrays, delta)
    np.testing.assert_allclose(td_error.numpy(), expected_error, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(loss.numpy(), expected_loss, rtol=1e-5, atol=1e-6)


def test_bootstrap_values_get_no_gradient():
    q, online, target = (torch.zeros(1, 2, requires_grad=True) for _ in range(3))
    one = torch.ones(1)
    legal = torch.ones(1, 2, dtype=torch.bool)
    loss, _ = double_q_loss(q, torch.tensor([0]), one, one, online, target, legal)
    loss.sum().backward()
    assert q.grad is not None
    assert online.grad is None
    assert target.grad is None


def test_quantile_loss_of_two_transitions_worked_out_by_hand():
    # 0: action 2 is illegal, so action 1's quantiles count: targets 1 + 0.5 * (0, 6) = (1, 4).
    #    Level 1/4 at 0: u = 1 and 4, 0.25 * (0.5 + 3.5) / 2 = 0.5.
    #    Level 3/4 at 2: u = -1 and 2, (0.25 * 0.5 + 0.75 * 1.5) / 2 = 0.625.
    # 1: terminal, targets (-1, -1). Level 1/4 at -1: 0. Level 3/4 at 1: u = -2, 0.25 * 1.5.
    quantiles = torch.zeros(2, 3, 2)
    quantiles[0, 1] = torch.tensor([0.0, 2.0])
    quantiles[1, 0] = torch.tensor([-1.0, 1.0])
    quantiles.requires_grad_()
    following = torch.full((2, 3, 2), 50.0)
    following[0, 1] = torch.tensor([0.0, 6.0])
    loss, td_error = quantile_double_q_loss(
        quantiles,
        actions_B=torch.tensor([1, 0]),
        returns_B=torch.tensor([1.0, -1.0]),
        bootstrap_discounts_B=torch.tensor([0.5, 0.0]),
        q_next_online_BA=torch.tensor([[0.0, 1.0, 7.0], [1.0, 1.0, 1.0]]),
        next_target_BAY=following,
        legal_BA=torch.tensor([[True, True, False], [True, True, True]]),
    )
    assert loss.tolist() == pytest.approx([1.125, 0.375])
    assert td_error.tolist() == pytest.approx([1.5, -1.0])
    assert not td_error.requires_grad
    loss.sum().backward()
    assert quantiles.grad is not None
    expected = torch.zeros(2, 3, 2)
    expected[0, 1] = torch.tensor([-0.25, -0.25])
    expected[1, 0] = torch.tensor([0.0, 0.25])
    torch.testing.assert_close(quantiles.grad, expected)


def slow_quantile_loss(quantiles, actions, returns, discounts, online, following, legal, delta):
    num_quantiles = quantiles.shape[2]
    losses, errors = [], []
    for b in range(len(quantiles)):
        best = max((a for a in range(online.shape[1]) if legal[b, a]), key=lambda a: online[b, a])
        chosen = quantiles[b, actions[b]]
        targets = [returns[b] + discounts[b] * value for value in following[b, best]]
        loss = 0.0
        for i in range(1, num_quantiles + 1):
            level = (2 * i - 1) / (2 * num_quantiles)
            for target in targets:
                u = target - chosen[i - 1]
                huber = 0.5 * u**2 if abs(u) <= delta else delta * (abs(u) - 0.5 * delta)
                loss += abs(level - (1 if u < 0 else 0)) * huber / len(targets)
        losses.append(loss)
        errors.append(np.mean(targets) - np.mean(chosen))
    return np.array(losses), np.array(errors)


@pytest.mark.parametrize("delta", [0.3, 1.0])
@pytest.mark.parametrize("num_targets", [5, 8])
def test_quantile_loss_equals_a_loop_from_the_paper(delta, num_targets):
    rng = np.random.default_rng(6)
    quantiles = rng.normal(size=(16, 6, 5)).astype(np.float32)
    following = rng.normal(size=(16, 6, num_targets)).astype(np.float32)
    online = rng.normal(size=(16, 6)).astype(np.float32)
    legal = random_legal(rng, 16, 6)
    actions = np.array([rng.choice(np.flatnonzero(row)) for row in legal])
    returns = rng.normal(size=16).astype(np.float32)
    discounts = rng.choice([0.0, 0.99**3], size=16).astype(np.float32)
    arrays = (quantiles, actions, returns, discounts, online, following, legal)
    loss, td_error = quantile_double_q_loss(*(torch.tensor(x) for x in arrays), huber_delta=delta)
    expected_loss, expected_error = slow_quantile_loss(*arrays, delta)
    np.testing.assert_allclose(td_error.numpy(), expected_error, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(loss.numpy(), expected_loss, rtol=1e-5, atol=1e-6)


def test_the_quantiles_of_least_loss_are_those_of_the_targets():
    # Two quantiles of the values 0 to 3, with so small a kappa that the loss is nearly absolute.
    quantiles = torch.zeros(1, 1, 2, requires_grad=True)
    optimizer = torch.optim.SGD([quantiles], lr=200.0)
    zero, one = torch.zeros(1), torch.ones(1)
    following = torch.tensor([[[0.0, 1.0, 2.0, 3.0]]])
    for _ in range(1_000):
        loss, _ = quantile_double_q_loss(
            quantiles,
            torch.tensor([0]),
            zero,
            one,
            torch.zeros(1, 1),
            following,
            torch.ones(1, 1, dtype=torch.bool),
            huber_delta=1e-4,
        )
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
    # Level 1/4 lies anywhere from 0 to 1, level 3/4 anywhere from 2 to 3.
    low, high = quantiles.flatten().tolist()
    assert -0.01 <= low <= 1.01
    assert 1.99 <= high <= 3.01


def test_importance_weights_are_schauls_formula_divided_by_the_batch_maximum():
    probabilities = np.array([0.5, 0.25, 0.125, 0.125])
    raw = (1.0 / (4 * probabilities)) ** 0.4
    weights = importance_weights(torch.tensor(1.0 / probabilities), 0.4)
    np.testing.assert_allclose(weights.numpy(), raw / raw.max(), rtol=1e-6)


def test_importance_weights_survive_very_rare_transitions():
    weights = importance_weights(torch.tensor([1.0, 1e30], dtype=torch.float64), 1.0)
    assert weights.dtype == torch.float32
    assert weights[1] == 1.0
    assert weights[0] == pytest.approx(1e-30)
