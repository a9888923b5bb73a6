"""Distances from a student's policy to its teacher's: what distillation can minimize.

In today's words Actor-Mimic is on-policy distillation (multi-teacher on-policy distillation, DAgger
with soft labels): the student visits the states, the teachers label them. Which distance is
minimized there is a choice of its own. Every softmax runs over a game's legal actions only.

Shape suffixes:
    B  transitions in the batch, all games mixed
    A  joint action set (18 for Atari)
"""

from __future__ import annotations

from torch import Tensor

from learner.losses import policy_mimic_loss
from learner.objectives.config import Divergence
from networks.masking import masked_log_softmax


def divergence_loss(
    kind: Divergence,
    student_logits_BA: Tensor,
    teacher_logits_BA: Tensor,
    legal_BA: Tensor,
    *,
    temperature: float | Tensor,
    teacher_share: float = 0.5,
) -> Tensor:
    """The chosen divergence [B] of each state, in nats, with pi_T = softmax(teacher / temperature).

        forward           H(pi_T, pi_S)   = - sum_a pi_T log pi_S                Actor-Mimic's
        reverse_kl        KL(pi_S || pi_T) = sum_a pi_S (log pi_S - log pi_T)
        jensen_shannon    share KL(pi_T || m) + (1 - share) KL(pi_S || m),
                          m = share pi_T + (1 - share) pi_S
        expected_entropy  H(pi_S, pi_T)   = - sum_a pi_S log pi_T

    The generalised Jensen-Shannon divergence is that of Agarwal et al. 2024
    (https://arxiv.org/abs/2306.13649, section 2.2). The last is the local term of expected entropy
    regularised distillation (Czarnecki et al. 2019, https://arxiv.org/abs/1902.02186), which is the
    gradient of an objective only together with `log_teacher_probabilities` as a reward.

    Only the student's logits get a gradient; Q-values of a student whose policy is softmax(Q / tau)
    are divided by tau before they come here. The rest is as in policy_mimic_loss.
    """
    if kind == "forward":
        return policy_mimic_loss(
            student_logits_BA, teacher_logits_BA, legal_BA, temperature=temperature
        )
    log_student_BA = _legal_logs(student_logits_BA, legal_BA)
    log_teacher_BA = _log_teacher(teacher_logits_BA, legal_BA, temperature)
    student_BA = log_student_BA.exp() * legal_BA
    if kind == "expected_entropy":
        return -(student_BA * log_teacher_BA).sum(1)
    if kind == "reverse_kl":
        return (student_BA * (log_student_BA - log_teacher_BA)).sum(1)
    teacher_BA = log_teacher_BA.exp() * legal_BA
    mixed_BA = teacher_share * teacher_BA + (1 - teacher_share) * student_BA
    # Illegal entries are 0 in all three; 1 there has a logarithm and contributes nothing. A legal
    # action that underflowed in both policies contributes nothing either.
    smallest = mixed_BA.new_tensor(1e-38)
    log_mixed_BA = mixed_BA.masked_fill(~legal_BA, 1.0).maximum(smallest).log()
    from_teacher_B = (teacher_BA * (log_teacher_BA - log_mixed_BA)).sum(1)
    from_student_B = (student_BA * (log_student_BA - log_mixed_BA)).sum(1)
    return teacher_share * from_teacher_B + (1 - teacher_share) * from_student_B


def log_teacher_probabilities(
    teacher_logits_BA: Tensor,
    actions_B: Tensor,
    legal_BA: Tensor,
    *,
    temperature: float | Tensor,
) -> Tensor:
    """Give log pi_T(action | state), float32 [B], never positive and without a gradient.

    Added to the rewards of the steps before, it makes `expected_entropy` the gradient of one
    objective: act so that the teacher would have acted likewise, now and later. The actions are
    legal ones.
    """
    logs_BA = _log_teacher(teacher_logits_BA, legal_BA, temperature)
    return logs_BA.gather(1, actions_B.unsqueeze(1)).squeeze(1)


def _log_teacher(logits_BA: Tensor, legal_BA: Tensor, temperature: float | Tensor) -> Tensor:
    if isinstance(temperature, Tensor):
        temperature = temperature.unsqueeze(1)
    return _legal_logs(logits_BA.detach().float() / temperature, legal_BA)


def _legal_logs(logits_BA: Tensor, legal_BA: Tensor) -> Tensor:
    """Log-softmax with 0 at illegal actions, where -inf would make 0 * -inf = nan."""
    return masked_log_softmax(logits_BA.float(), legal_BA).masked_fill(~legal_BA, 0.0)
