"""Softened policies and distances against plain loops."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from networks.masking import masked_log_softmax, masked_softmax
from teachers.targets import policy_kl, teacher_policy

LEGAL = torch.tensor(
    [
        [True, False, True, True, False],
        [True, True, True, True, True],
        [False, False, False, True, False],
    ]
)


def q_values(seed: int = 0) -> Tensor:
    return torch.randn(3, 5, generator=torch.Generator().manual_seed(seed)) * 4


def slow_policy(q_row: list[float], legal_row: list[bool], temperature: float) -> list[float]:
    weights = [
        math.exp(q / temperature) if legal else 0.0
        for q, legal in zip(q_row, legal_row, strict=True)
    ]
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize("temperature", [0.1, 1.0, 7.0])
def test_teacher_policy_equals_a_loop_written_from_the_paper(temperature: float) -> None:
    got = teacher_policy(q_values(), LEGAL, temperature)
    for row in range(3):
        expected = slow_policy(q_values()[row].tolist(), LEGAL[row].tolist(), temperature)
        np.testing.assert_allclose(got[row].numpy(), expected, rtol=1e-4, atol=1e-12)
    assert (got[~LEGAL] == 0).all()


def test_half_precision_labels_are_widened_before_the_division() -> None:
    logits = torch.tensor([[0.0, -60.0, -0.001]], dtype=torch.float16)
    # -60 / 0.0005 is beyond float16.
    got = teacher_policy(logits, torch.ones(3, dtype=torch.bool), 0.0005)
    assert got.dtype == torch.float32
    assert got.isfinite().all()
    assert got[0, 1] == 0


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan")])
def test_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        teacher_policy(q_values(), LEGAL, temperature)


def test_kl_equals_a_loop() -> None:
    student = q_values(1)
    policy = teacher_policy(q_values(), LEGAL, 2.0)
    got = policy_kl(policy, masked_log_softmax(student, LEGAL))
    for row in range(3):
        p = slow_policy(q_values()[row].tolist(), LEGAL[row].tolist(), 2.0)
        q = slow_policy(student[row].tolist(), LEGAL[row].tolist(), 1.0)
        expected = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)
        assert got[row].item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_kl_is_finite_where_the_students_probability_underflows() -> None:
    student = torch.tensor([[0.0, -500.0]])
    legal = torch.tensor([[True, True]])
    assert masked_softmax(student, legal)[0, 1] == 0
    got = policy_kl(torch.tensor([[0.5, 0.5]]), masked_log_softmax(student, legal))
    assert got.item() == pytest.approx(250 - math.log(2), rel=1e-4)


def test_gradient_of_kl_is_student_minus_teacher_and_zero_for_illegal_actions() -> None:
    student = q_values(1).requires_grad_()
    teacher_q = q_values().requires_grad_()
    policy = teacher_policy(teacher_q, LEGAL, 1.0)
    policy_kl(policy, masked_log_softmax(student, LEGAL)).sum().backward()
    assert student.grad is not None
    expected = masked_softmax(student, LEGAL) - policy
    torch.testing.assert_close(student.grad, expected.detach(), atol=1e-6, rtol=1e-5)
    assert (student.grad[~LEGAL] == 0).all()
    assert teacher_q.grad is None
