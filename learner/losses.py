"""Losses of the student and of value-learning networks.

Pure functions of tensors: no modules, devices or logging in here, so that each one can be checked
against a plain NumPy loop (tests/learner/test_losses.py). Nothing is averaged: every loss comes
back per transition, because weights differ per transition.

Shape suffixes:
    B  transitions in the batch, all games mixed
    A  joint action set (18 for Atari)
    D  width of one teacher's last hidden layer
    Z  quantiles that are learned
    Y  quantiles of the target
"""

import torch
from torch import Tensor
from torch.nn import functional

from networks.masking import masked_argmax, masked_log_softmax, masked_softmax


def policy_mimic_loss(
    student_logits_BA: Tensor,
    teacher_logits_BA: Tensor,
    legal_BA: Tensor,
    *,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    """Cross-entropy [B], in nats, from the expert's softened policy to the student's policy.

    Policy regression objective of Actor-Mimic (Parisotto et al. 2016,
    https://arxiv.org/abs/1511.06342), with both softmaxes over the legal actions only:

        pi_E(a|s) = softmax_a(Q_E(s, a) / temperature)
        loss(s)   = - sum_a pi_E(a|s) * log pi_S(a|s)

    Only the expert is divided by the temperature (one number, or [B]). Dividing the student as well
    is the knowledge-distillation convention (Hinton et al. 2015) and would scale the gradient. The
    minimum is the entropy of pi_E, not zero.

    The teacher's logits are Q minus its maximum over legal actions, in units of clipped discounted
    reward; they are detached here. Illegal entries may hold anything, nan too, and get exactly zero
    gradient; never all of a row are illegal.
    """
    if isinstance(temperature, Tensor):
        temperature = temperature.unsqueeze(1)
    teacher_policy_BA = masked_softmax(teacher_logits_BA.detach().float() / temperature, legal_BA)
    student_log_policy_BA = masked_log_softmax(student_logits_BA.float(), legal_BA)
    # 0 * -inf is nan, so illegal entries are zeroed before the product, not after it.
    student_log_policy_BA = student_log_policy_BA.masked_fill(~legal_BA, 0.0)
    return -(teacher_policy_BA * student_log_policy_BA).sum(1)


def feature_mimic_loss(regressed_BD: Tensor, teacher_features_BD: Tensor) -> Tensor:
    """Squared distance [B] between the regressed student features and the expert's features.

    Feature regression objective of Actor-Mimic (Parisotto et al. 2016, section 3.2):

        loss(s) = || f_i(h_S(s)) - h_E(s) ||^2        summed over D, weighted by beta = 0.01

    This is the formula as printed. The released code injects f - h_E as the gradient and so
    minimizes half of it: to train as that code does, weight this loss by 0.005. The gradient goes
    on into the trunk.
    """
    difference_BD = regressed_BD.float() - teacher_features_BD.detach().float()
    return difference_BD.square().sum(1)


def double_q_loss(
    q_BA: Tensor,
    actions_B: Tensor,
    returns_B: Tensor,
    bootstrap_discounts_B: Tensor,
    q_next_online_BA: Tensor,
    q_next_target_BA: Tensor,
    legal_BA: Tensor,
    *,
    huber_delta: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Double Q-learning loss (van Hasselt et al. 2016, https://arxiv.org/abs/1509.06461).

        a*     = argmax over legal a of q_next_online(a)
        target = return + bootstrap_discount * q_next_target(a*)
        delta  = target - q(action)
        loss   = 0.5 * delta^2                               where |delta| <= huber_delta
                 huber_delta * (|delta| - 0.5 * huber_delta)   elsewhere

    With huber_delta = 1 the gradient is the TD error clipped to [-1, 1] of Nature DQN. Passing the
    target network's values as both next arguments gives plain DQN.

    Only q_BA gets a gradient. Returns are n-step sums of rewards; the bootstrap discount is
    discount^n, or 0 where the return ends with its episode, and the next values are finite there,
    too. One legal mask serves both times. Returns (loss, td_error), float32 [B] each; td_error is
    delta, detached, signed and unclipped.
    """
    with torch.no_grad():
        best_actions_B = masked_argmax(q_next_online_BA, legal_BA)
        bootstrap_B = _pick(q_next_target_BA, best_actions_B)
        target_B = returns_B.float() + bootstrap_discounts_B.float() * bootstrap_B
    chosen_B = _pick(q_BA, actions_B)
    loss_B = functional.huber_loss(chosen_B, target_B, reduction="none", delta=huber_delta)
    return loss_B, (target_B - chosen_B).detach()


def quantile_double_q_loss(
    quantiles_BAZ: Tensor,
    actions_B: Tensor,
    returns_B: Tensor,
    bootstrap_discounts_B: Tensor,
    q_next_online_BA: Tensor,
    next_target_BAY: Tensor,
    legal_BA: Tensor,
    *,
    huber_delta: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Quantile regression of the return's distribution, with double Q-learning's choice of action.

    QR-DQN (Dabney et al. 2018, https://arxiv.org/abs/1710.10044, equation 10 and algorithm 1):

        a*         = argmax over legal a of q_next_online(a), the mean of its quantiles
        target_j   = return + bootstrap_discount * next_target_j(a*)
        u_ij       = target_j - quantile_i(action)
        level_i    = (2 i - 1) / (2 Z)                         for i = 1 .. Z
        rho_i(u)   = |level_i - [u < 0]| * huber(u)            huber as in double_q_loss
        loss       = sum over i of the mean over j of rho_i(u_ij)

    The paper's algorithm takes a* from the target network; passing the target's means as
    q_next_online_BA gives that. huber_delta is kappa in the paper; all else is as in double_q_loss.
    Returns (loss, td_error), float32 [B] each; td_error is the mean target minus the mean quantile,
    detached, signed and unclipped, so that priorities mean what they mean without quantiles.
    """
    with torch.no_grad():
        best_actions_B = masked_argmax(q_next_online_BA, legal_BA)
        bootstrap_BY = _pick_quantiles(next_target_BAY, best_actions_B)
        discounts_B1 = bootstrap_discounts_B.float().unsqueeze(1)
        target_BY = returns_B.float().unsqueeze(1) + discounts_B1 * bootstrap_BY
    chosen_BZ = _pick_quantiles(quantiles_BAZ, actions_B)
    num_quantiles = chosen_BZ.shape[1]
    steps_Z = torch.arange(num_quantiles, device=chosen_BZ.device, dtype=torch.float32)
    levels_Z1 = ((steps_Z + 0.5) / num_quantiles).unsqueeze(1)
    chosen_BZY = chosen_BZ.unsqueeze(2).expand(-1, -1, target_BY.shape[1])
    target_BZY = target_BY.unsqueeze(1).expand(-1, num_quantiles, -1)
    huber_BZY = functional.huber_loss(chosen_BZY, target_BZY, reduction="none", delta=huber_delta)
    is_below_BZY = (target_BZY < chosen_BZY.detach()).float()
    loss_B = ((levels_Z1 - is_below_BZY).abs() * huber_BZY).mean(2).sum(1)
    return loss_B, target_BY.mean(1) - chosen_BZ.detach().mean(1)


def importance_weights(
    inverse_probabilities_B: Tensor, exponent: float, *, largest: Tensor | None = None
) -> Tensor:
    """Importance-sampling weights of prioritized replay, float32 [B] in (0, 1], without a gradient.

    Schaul et al. 2016 (https://arxiv.org/abs/1511.05952), section 3.4, with beta = exponent:

        w_i = (1 / (N * P(i)))^beta,  divided by max_j w_j of the batch

    N cancels in the division, so it is not an argument. `largest` is the largest 1 / P(i) of the
    batch that these are a part of; None where they are all of it.
    """
    # Dividing before the power keeps the largest intermediate value at 1.
    inverse_B = inverse_probabilities_B.detach().double()
    maximum = inverse_B.max() if largest is None else largest.double()
    return (inverse_B / maximum).pow(exponent).float()


def _pick_quantiles(quantiles_BAZ: Tensor, actions_B: Tensor) -> Tensor:
    rows_B = torch.arange(len(actions_B), device=actions_B.device)
    return quantiles_BAZ[rows_B, actions_B].float()


def _pick(values_BA: Tensor, actions_B: Tensor) -> Tensor:
    return values_BA.float().gather(1, actions_B.unsqueeze(1)).squeeze(1)
