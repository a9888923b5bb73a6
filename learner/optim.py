"""The papers' optimizers, with their constants explained.

Both differ from PyTorch's classes of similar name in where the small constant stands and in what
they do at the start, and both were tuned for gradients *summed* over the minibatch, as Torch7's
criteria deliver them. Here losses are usually averaged. Pass `mean_over=B` when the loss is a mean
over B transitions: since

    m_sum / sqrt(v_sum + c)  =  m_mean / sqrt(v_mean + c / B^2)

dividing the constant by B^2 gives exactly the steps that the summed loss would give, at the same
learning rate.

Neither corrects for a cold start, so neither keeps a step count.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from learner.config import LearnerConfig

# Inside the root, for gradients of a loss summed over the batch; both papers' own.
_EPSILON = 0.01


class ActorMimicAdam(torch.optim.Optimizer):
    """Adam as the released Actor-Mimic code runs it.

    https://github.com/eparisotto/ActorMimic; for a gradient g:

        m <- beta1 * m + (1 - beta1) * g
        v <- beta2 * v + (1 - beta2) * g^2
        w <- w - lr * sqrt(1 - beta2) / (1 - beta1) * m / sqrt(v + epsilon)

    There is no bias correction that fades: the factor of the first step of Adam stays for good. At
    beta1 = beta2 = 0.95 it is 4.47, so lr = 2.5e-4 steps like 1.118e-3. The epsilon of 0.01 inside
    the root makes layers whose summed gradients are below 0.1 behave like momentum SGD.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        *,
        betas: tuple[float, float] = (0.95, 0.95),
        mean_over: int | None = None,
    ) -> None:
        """`betas`: decay of the mean and of the mean square."""
        super().__init__(params, {"lr": lr, "betas": betas, "epsilon": _per_mean(mean_over)})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update every parameter that has a gradient."""
        assert closure is None, "no loss is computed here"
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            params, grads, means, squares = _gather(self, group["params"])
            if not params:
                continue
            torch._foreach_lerp_(means, grads, 1.0 - beta1)
            torch._foreach_mul_(squares, beta2)
            torch._foreach_addcmul_(squares, grads, grads, 1.0 - beta2)
            roots = torch._foreach_add(squares, group["epsilon"])
            torch._foreach_sqrt_(roots)
            factor = math.sqrt(1.0 - beta2) / (1.0 - beta1)
            torch._foreach_addcdiv_(params, means, roots, -group["lr"] * factor)


class CenteredRmsProp(torch.optim.Optimizer):
    """RMSProp of Nature DQN: the gradient over its standard deviation, without momentum.

    Mnih et al. 2015 (https://www.nature.com/articles/nature14236) and its released code; for a
    gradient g:

        m <- decay * m + (1 - decay) * g
        v <- decay * v + (1 - decay) * g^2
        w <- w - lr * g / sqrt(v - m^2 + epsilon)

    PyTorch's RMSprop(centered=True) adds its epsilon outside the root, where 0.01 means another
    thing.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        *,
        decay: float = 0.95,
        mean_over: int | None = None,
    ) -> None:
        """`decay`: of both running means."""
        super().__init__(params, {"lr": lr, "decay": decay, "epsilon": _per_mean(mean_over)})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update every parameter that has a gradient."""
        assert closure is None, "no loss is computed here"
        for group in self.param_groups:
            decay = group["decay"]
            params, grads, means, squares = _gather(self, group["params"])
            if not params:
                continue
            torch._foreach_lerp_(means, grads, 1.0 - decay)
            torch._foreach_mul_(squares, decay)
            torch._foreach_addcmul_(squares, grads, grads, 1.0 - decay)
            roots = torch._foreach_addcmul(squares, means, means, -1.0)
            # v - m^2 of a steady gradient can round to slightly below zero, and with the constant
            # divided by B^2 that would be the root of a negative number.
            torch._foreach_clamp_min_(roots, 0.0)
            torch._foreach_add_(roots, group["epsilon"])
            torch._foreach_sqrt_(roots)
            torch._foreach_addcdiv_(params, grads, roots, -group["lr"])


def build_optimizer(
    config: LearnerConfig, params: Iterable[Tensor], *, mean_over: int | None = None
) -> torch.optim.Optimizer:
    """Make the configured optimizer for a loss that is averaged, or summed without `mean_over`."""
    lr = config.learning_rate
    if config.optimizer == "adam":
        # Fused: one pass over memory instead of a dozen, a quarter of the time on a CPU.
        return torch.optim.Adam(params, lr=lr, eps=config.adam_epsilon, fused=True)
    kind = ActorMimicAdam if config.optimizer == "actor_mimic_adam" else CenteredRmsProp
    return kind(params, lr, mean_over=mean_over)


def set_constants(optimizer: torch.optim.Optimizer, config: LearnerConfig) -> None:
    """Have an optimizer of `build_optimizer` go on with other constants; moments stay."""
    if config.optimizer == "adam":
        for group in optimizer.param_groups:
            group["eps"] = config.adam_epsilon


def _per_mean(mean_over: int | None) -> float:
    return _EPSILON / (mean_over or 1) ** 2


def _gather(
    optimizer: torch.optim.Optimizer, params: list[Tensor]
) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    """The parameters that have gradients, those gradients, and their two running means."""
    with_grad = [param for param in params if param.grad is not None]
    for param in with_grad:
        state = optimizer.state[param]
        if not state:
            state["gradient_mean"] = torch.zeros_like(param)
            state["gradient_square_mean"] = torch.zeros_like(param)
    grads = [param.grad for param in with_grad if param.grad is not None]
    means = [optimizer.state[param]["gradient_mean"] for param in with_grad]
    squares = [optimizer.state[param]["gradient_square_mean"] for param in with_grad]
    return with_grad, grads, means, squares
