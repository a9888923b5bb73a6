"""Divergences of distillation against loops over legal actions, and their gradients."""

import typing

import numpy as np
import pytest
import torch

from learner.divergences import divergence_loss, log_teacher_probabilities
from learner.losses import policy_mimic_loss
from learner.objectives.config import Divergence

KINDS = typing.get_args(Divergence)


def softmax(logits):
    powers = np.exp(logits - max(logits))
    return powers / powers.sum()


def slow(kind, student, teacher, legal, temperature, share):
    """One state, over legal actions only, from the definitions."""
    s = softmax(np.array([student[a] for a in range(len(legal)) if legal[a]]))
    t = softmax(np.array([teacher[a] / temperature for a in range(len(legal)) if legal[a]]))
    m = share * t + (1 - share) * s
    total = 0.0
    for pi_s, pi_t, mixed in zip(s, t, m, strict=True):
        if kind == "forward":
            total -= pi_t * np.log(pi_s)
        elif kind == "reverse_kl":
            total += pi_s * np.log(pi_s / pi_t)
        elif kind == "jensen_shannon":
            total += share * pi_t * np.log(pi_t / mixed)
            total += (1 - share) * pi_s * np.log(pi_s / mixed)
        else:
            total -= pi_s * np.log(pi_t)
    return total


def batch(seed=0, size=9, num_actions=6):
    rng = np.random.default_rng(seed)
    student = torch.tensor(rng.normal(size=(size, num_actions)), dtype=torch.float32)
    teacher = torch.tensor(-rng.exponential(size=(size, num_actions)), dtype=torch.float32)
    legal = torch.tensor(rng.random((size, num_actions)) < 0.6)
    legal[:, 0] = True
    return student, teacher, legal


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.5, 0.1])
def test_every_divergence_equals_its_definition(kind, share):
    student, teacher, legal = batch()
    temperature = torch.linspace(0.2, 2.0, len(student))
    found = divergence_loss(
        kind, student, teacher, legal, temperature=temperature, teacher_share=share
    )
    expected = [
        slow(kind, *(row.numpy() for row in rows), float(tau), share)
        for rows, tau in zip(zip(student, teacher, legal, strict=True), temperature, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_the_papers_path_is_bit_identical():
    student, teacher, legal = batch()
    found = divergence_loss("forward", student, teacher, legal, temperature=0.05)
    assert torch.equal(found, policy_mimic_loss(student, teacher, legal, temperature=0.05))


@pytest.mark.parametrize("kind", KINDS)
def test_illegal_actions_get_no_gradient_and_may_hold_anything(kind):
    student, teacher, legal = batch()
    clean = divergence_loss(kind, student, teacher, legal, temperature=0.1)
    student = student.masked_fill(~legal, 1e4).requires_grad_()
    teacher = teacher.masked_fill(~legal, torch.nan)
    found = divergence_loss(kind, student, teacher, legal, temperature=0.1)
    torch.testing.assert_close(found, clean)
    found.sum().backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert (student.grad[~legal] == 0).all()
    assert (student.grad[legal] != 0).any()


@pytest.mark.parametrize("kind", ["reverse_kl", "jensen_shannon"])
def test_a_divergence_is_0_where_both_policies_agree_and_positive_elsewhere(kind):
    student, teacher, legal = batch()
    agreed = divergence_loss(kind, teacher / 0.3, teacher, legal, temperature=0.3)
    torch.testing.assert_close(agreed, torch.zeros(len(teacher)), atol=1e-6, rtol=0)
    several = legal.sum(1) > 1
    assert (divergence_loss(kind, student, teacher, legal, temperature=0.3)[several] > 0).all()


def test_jensen_shannon_goes_from_one_kl_divergence_to_the_other():
    student, teacher, legal = batch()

    def scaled(share):
        loss = divergence_loss(
            "jensen_shannon", student.double(), teacher, legal, temperature=1.0, teacher_share=share
        )
        return loss / share if share < 0.5 else loss / (1 - share)

    reverse = divergence_loss("reverse_kl", student, teacher, legal, temperature=1.0)
    forward = divergence_loss("forward", student, teacher, legal, temperature=1.0)
    entropy = divergence_loss("forward", teacher, teacher, legal, temperature=1.0)
    torch.testing.assert_close(scaled(0.999), reverse, rtol=0.02, atol=1e-3)
    torch.testing.assert_close(scaled(0.001), forward - entropy, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_policies_sharper_than_floats_can_hold_give_finite_losses_and_gradients(kind):
    student = torch.tensor([[300.0, 0.0, -300.0]], requires_grad=True)
    teacher = torch.tensor([[-9.0, 0.0, -9.0]])
    loss = divergence_loss(
        kind, student, teacher, torch.ones(1, 3, dtype=torch.bool), temperature=0.01
    )
    loss.sum().backward()
    assert loss.isfinite().all()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_the_teachers_log_probability_of_an_action_is_over_legal_ones():
    teacher = torch.tensor([[0.0, -1.0, 5.0]])
    legal = torch.tensor([[True, True, False]])
    found = log_teacher_probabilities(teacher, torch.tensor([1]), legal, temperature=0.5)
    # exp(-2) / (1 + exp(-2)); the illegal third action has no part in it.
    assert float(found) == pytest.approx(np.log(np.exp(-2) / (1 + np.exp(-2))), rel=1e-5)
