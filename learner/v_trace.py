"""V-trace: value targets and advantages from sequences that an older policy has played.

Pure functions of tensors, like losses.py.

Shape suffixes:
    Q  sequences in the batch
    T  steps of each; a shorter sequence is filled up with steps that do not count
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class VTrace:
    """What a critic and a policy learn from sequences; no gradient runs through it."""

    # v_t, what the critic's value is drawn to; its own value where a step does not count.
    targets_QT: Tensor
    # What the gradient of log pi(a_t | s_t) is multiplied by; 0 where a step does not count.
    advantages_QT: Tensor
    # Bool: steps to learn from.
    counts_QT: Tensor


def v_trace(
    values_QT: Tensor,
    bootstrap_values_Q: Tensor,
    rewards_QT: Tensor,
    discounts_QT: Tensor,
    ratios_QT: Tensor,
    *,
    is_step_QT: Tensor,
    can_bootstrap_Q: Tensor,
    rho_bar: float = 1.0,
    c_bar: float = 1.0,
) -> VTrace:
    """V-trace (Espeholt et al. 2018, https://arxiv.org/abs/1802.01561, section 4.1).

        rho_t   = min(rho_bar, pi(a_t | s_t) / mu(a_t | s_t))
        c_t     = min(c_bar, pi(a_t | s_t) / mu(a_t | s_t))
        delta_t = rho_t (r_t + discount_t V(s_{t+1}) - V(s_t))
        v_t     = V(s_t) + delta_t + discount_t c_t (v_{t+1} - V(s_{t+1}))
        A_t     = rho_t (r_t + discount_t v_{t+1} - V(s_t))

    The advantage uses the target v_{t+1}, not V(s_{t+1}). With rho_bar below infinity the fixed
    point is the value of a policy between mu and pi, proportional to min(rho_bar mu, pi): very old
    replay or much random exploration draws what is learned towards mu.

    A discount of 0 (a game over, or a life lost in classic training) cuts the return there while
    the sequence goes on. The last step of a sequence bootstraps from the observation after it, as
    after a truncation. Where that observation is not there, nothing is known of what the last step
    led to: it does not count, and the steps before it bootstrap from its state.

    The ratios pi / mu are positive and unclipped; `is_step_QT` is True for the steps there are,
    which come first in every row.
    """
    with torch.no_grad():
        values_QT = values_QT.float()
        is_last_QT = is_step_QT & ~_later(is_step_QT, False)
        is_known_QT = ~is_last_QT | can_bootstrap_Q.unsqueeze(1) | (discounts_QT == 0)
        counts_QT = is_step_QT & is_known_QT
        last_values_Q1 = torch.where(can_bootstrap_Q, bootstrap_values_Q.float(), 0.0).unsqueeze(1)
        next_values_QT = torch.where(is_last_QT, last_values_Q1, _later(values_QT, 0.0))
        rhos_QT = ratios_QT.float().clamp(max=rho_bar)
        carries_QT = discounts_QT * ratios_QT.float().clamp(max=c_bar)
        deltas_QT = rhos_QT * (rewards_QT + discounts_QT * next_values_QT - values_QT)
        deltas_QT = torch.where(counts_QT, deltas_QT, 0.0)
        corrections_QT = torch.zeros_like(deltas_QT)
        later_Q = torch.zeros_like(bootstrap_values_Q, dtype=deltas_QT.dtype)
        for t in range(deltas_QT.shape[1] - 1, -1, -1):
            # Steps that do not count have no surprise and carry none back.
            later_Q = torch.where(counts_QT[:, t], deltas_QT[:, t] + carries_QT[:, t] * later_Q, 0)
            corrections_QT[:, t] = later_Q
        targets_QT = values_QT + corrections_QT
        next_targets_QT = torch.where(is_last_QT, last_values_Q1, _later(targets_QT, 0.0))
        advantages_QT = rhos_QT * (rewards_QT + discounts_QT * next_targets_QT - values_QT)
        return VTrace(
            targets_QT=targets_QT,
            advantages_QT=torch.where(counts_QT, advantages_QT, 0.0),
            counts_QT=counts_QT,
        )


def _later(steps_QT: Tensor, last: float | bool) -> Tensor:
    """Each step's successor in its row, and `last` behind the end."""
    return torch.cat([steps_QT[:, 1:], torch.full_like(steps_QT[:, :1], last)], 1)
