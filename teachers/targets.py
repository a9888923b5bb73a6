"""Softened policies of teachers and distances between policies.

Pure functions of tensors. Policies here are over the joint action set with exact zeros at illegal
actions, which is how networks/masking.py makes them.

Shape suffixes:
    B  states in the batch
    A  joint action set
"""

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from networks.masking import masked_log_softmax, masked_softmax

DistanceKind: TypeAlias = Literal["l1", "kl"]


def teacher_policy(logits_BA: Tensor, legal_BA: Tensor, temperature: float | Tensor) -> Tensor:
    """The policy a student is to imitate: softmax(Q / temperature) over legal actions.

    Policy regression target of Actor-Mimic (Parisotto et al. 2016, section 2,
    https://arxiv.org/abs/1511.06342).

    Args:
        logits_BA: Q, or Q minus anything constant within a row. Half precision is widened first.
        legal_BA: bool, broadcast against the logits; never all False in a row.
        temperature: unit of Q; lower is greedier. A tensor [B] gives each row its own.

    Returns:
        float32 [B, A]; illegal actions get exactly 0.

    Raises:
        ValueError: a temperature, given as a number, that is not above 0.
    """
    if isinstance(temperature, Tensor):
        # Not checked: reading a tensor would stall the accelerator.
        temperature = temperature.unsqueeze(-1)
    elif not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0")
    return masked_softmax(logits_BA.float() / temperature, legal_BA)


def policy_l1_distance(policy_BA: Tensor, other_policy_BA: Tensor) -> Tensor:
    """sum_a |p(a) - q(a)|, [B], from 0 (equal) to 2 (nothing in common)."""
    return (policy_BA - other_policy_BA).abs().sum(-1)


def policy_kl(policy_BA: Tensor, other_log_policy_BA: Tensor) -> Tensor:
    """KL(p || q) = sum_a p(a) (log p(a) - log q(a)), [B], in nats.

    Unlike the cross-entropy it is 0 when the policies agree, whatever the teacher's entropy.

    Args:
        policy_BA: p, usually the teacher's; detached here. Where it is 0 nothing is added.
        other_log_policy_BA: log q, from `masked_log_softmax`: the logarithm of a probability would
            be -inf wherever that underflows. -inf is right where p is 0.
    """
    policy_BA = policy_BA.detach()
    # 0 * -inf is nan, in the gradient too, so log q is replaced before the product.
    log_q_BA = other_log_policy_BA.masked_fill(policy_BA == 0, 0.0)
    return (torch.xlogy(policy_BA, policy_BA) - policy_BA * log_q_BA).sum(-1)


def mimic_distance(
    student_logits_BA: Tensor,
    teacher_logits_BA: Tensor,
    legal_BA: Tensor,
    *,
    temperature: float | Tensor,
    kind: DistanceKind,
) -> Tensor:
    """How far the student's policy is from the one it is to imitate; priorities come from here."""
    target_BA = teacher_policy(teacher_logits_BA, legal_BA, temperature)
    if kind == "l1":
        return policy_l1_distance(target_BA, masked_softmax(student_logits_BA, legal_BA))
    return policy_kl(target_BA, masked_log_softmax(student_logits_BA, legal_BA))
